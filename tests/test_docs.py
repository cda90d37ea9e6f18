"""README and docs/ name only what exists: links, paths, and the overrides of commands."""

import functools
import re
import shlex
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from lm.config.command_line import hydra_arguments
from lm.config.overrides import check_command_line
from tests.conftest import HAS_SWEEP, ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("lm", "conf", "scripts", "tests", "docs", ".ci")
FREE_TEXT = ("prompt", "text")


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[str]:
    """The lines that run a script, in blocks of shell code and between backquotes."""
    text = page.read_text()
    blocks = chain.from_iterable(
        each.replace("\\\n", " ").split("\n") for each in re.findall(r"```bash\n(.*?)```", text, re.S)
    )
    inline = re.findall(r"`(python scripts/[^`]*)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return (each for each in chain(blocks, inline) if re.search(r"scripts/\w+\.py", each) and "…" not in each)


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "extending.md"], ids=lambda page: page.name)
def test_paths_exist(page):
    """Extending names the files that a reader will write."""
    for path in re.findall(rf"`((?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]*)`", page.read_text()):
        assert (ROOT / path).exists(), path


def test_tree_in_readme():
    """Every folder and file of the tree exists, and every room is in it."""
    [tree] = re.findall(r"```\n(conf/.*?)```", (ROOT / "README.md").read_text(), re.S)
    named, parents = set(), []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        parents[depth:] = [line.split()[0].rstrip("/")]
        named.add("/".join(parents))
    assert [path for path in named if not (ROOT / path).exists()] == []
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "lm").rglob("__init__.py")}
    assert rooms - named == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "extending.md"], ids=lambda page: page.name)
def test_commands_compose(page):
    for command in commands(page):
        script, arguments = re.search(r"scripts/(\w+)\.py(.*)", command.replace("\\", " ")).groups()
        arguments = shlex.split(arguments.split(" > ")[0].split("#")[0])
        if "optuna" in command and not HAS_SWEEP:
            continue
        check_once(script, *hydra_arguments(arguments, FREE_TEXT))


@functools.cache
def check_once(script, *arguments):
    check_command_line(script, arguments)
