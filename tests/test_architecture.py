"""The layout is the architecture: imports run downwards only, not between packages of one layer."""

import ast
from pathlib import Path

from tests.conftest import ROOT

LAYERS = (
    {"errors"},
    {"files", "ops"},
    {"config"},
    {"data", "models"},
    {"checkpoints", "generation", "evaluation"},
    {"score"},
    {"plots"},
    {"language_model"},
    {"export", "explore"},
    {"training"},
    {"benchmark"},
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}


def imported_rooms(path: Path) -> set[str]:
    """The rooms of `lm` that a module imports, within functions too."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module] if node.module != "lm" else [f"lm.{each.name}" for each in node.names]
        elif isinstance(node, ast.Import):
            modules += [each.name for each in node.names]
    return {module.split(".")[1] for module in modules if module.startswith("lm.")} - {"LanguageModel"}


def test_imports_run_downwards_only():
    upward = []
    for path in sorted((ROOT / "lm").rglob("*.py")):
        room = path.relative_to(ROOT / "lm").parts[0].removesuffix(".py")
        if room != "__init__":
            upward += [
                f"{path}: lm.{each}" for each in imported_rooms(path) if each != room and RANK[each] >= RANK[room]
            ]
    assert upward == []
