"""The built-in corpus: the English documentation that ships with Python, so nothing is downloaded."""

import ast
import os
import platform
import pydoc_data.topics
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from lm.data.sources import Splits, refuse_file
from lm.files.text import write_text

WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def python_docs(root: Path) -> Splits:
    """The language reference and the standard library's docstrings, one paragraph per line, in three splits.

    Of every ten documents the ninth is for validation and the tenth for testing; no document is in two splits.
    Deterministic per Python version; the files are written once, to a folder below `root` named after the version.
    """
    refuse_file(root)
    home = root / f"{platform.python_implementation()}-{platform.python_version()}".lower()
    splits = Splits(*(home / f"{split}.txt" for split in Splits._fields))
    if not all(file.is_file() for file in splits):
        documents = [document for document in _documents() if document]
        train = [document for i, document in enumerate(documents) if i % 10 < 8]
        for file, part in zip(splits, (train, documents[8::10], documents[9::10]), strict=True):
            write_text("\n".join(part) + "\n", file)
    return splits


def _documents() -> Iterator[str]:
    for _, text in sorted(pydoc_data.topics.topics.items()):
        yield _lines_of_words(text)
    for path in _library_files():
        yield _lines_of_words("\n\n".join(_docstrings(path)))


def _library_files() -> Iterator[Path]:
    """The sources of the standard library, without its tests, in a fixed order."""
    library = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names):
        package = library / name
        files = sorted(package.rglob("*.py")) if package.is_dir() else [library / f"{name}.py"]
        for file in files:
            if file.is_file() and not {"test", "tests", "idle_test"} & set(file.relative_to(library).parts):
                yield file


def _docstrings(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=os.fspath(path))
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and (docstring := ast.get_docstring(node)):
            yield docstring


def _lines_of_words(text: str) -> str:
    """One paragraph per line, words and punctuation marks separated by single spaces."""
    paragraphs = (" ".join(WORD.findall(paragraph)) for paragraph in re.split(r"\n\s*\n", text))
    return "\n".join(paragraph for paragraph in paragraphs if paragraph)
