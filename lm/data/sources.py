"""Where text comes from: a function `(root) -> Splits` for a folder of files and for a download."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pooch
import requests

from lm.errors import UserError

FILE_NAMES = ("{split}.txt", "wiki.{split}.tokens", "ptb.{split}.txt")


class Splits(NamedTuple):
    """The three text files of a corpus: words separated by white space, one sentence or paragraph a line."""

    train: Path
    valid: Path
    test: Path


def folder(root: Path) -> Splits:
    """The splits that lie in `root`, or in a folder directly below it, under any of FILE_NAMES.

    Raises:
        UserError: if a split is missing or empty.
    """
    for directory, pattern in _places(root):
        files = Splits(*(directory / pattern.format(split=split) for split in Splits._fields))
        if any(file.is_file() for file in files):
            return _complete(files)
    names = " or ".join(pattern.format(split="{train,valid,test}") for pattern in FILE_NAMES)
    raise UserError(
        f"No text in data.root={root}: put {names} there, set data.root to a folder that has them, "
        "or use data=python_docs, which needs no files."
    )


def download(root: Path, files: Mapping[str, str]) -> Splits:
    """The splits in `root`; where there are none, `files` (address → "algorithm:checksum") are fetched first.

    Archives (`.zip`) are unpacked. Each file enters `root` whole and checked, or not at all.

    Raises:
        UserError: if a split is missing or empty, the network is out of reach, or a checksum is wrong.
    """
    if not any((directory / pattern.format(split="train")).is_file() for directory, pattern in _places(root)):
        _fetch(root, files)
    return folder(root)


def _places(root: Path) -> Iterator[tuple[Path, str]]:
    directories = [root, *sorted(path for path in root.glob("[!.]*") if path.is_dir())]
    return ((directory, pattern) for directory in directories for pattern in FILE_NAMES)


def _complete(files: Splits) -> Splits:
    for split, file in zip(Splits._fields, files, strict=True):
        if not file.is_file():
            raise UserError(f"The {split} split is missing: put it at {file}, beside the others.")
        if file.stat().st_size == 0:
            raise UserError(f"The {split} split {file} is empty: put the text there, or delete all three files.")
    return files


def _fetch(root: Path, files: Mapping[str, str]) -> None:
    advice = f"Put the files into data.root={root} yourself, or use data=python_docs, which needs no download."
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as aside:
            for url, checksum in files.items():
                unpack = pooch.Unzip(extract_dir=".") if url.endswith(".zip") else None
                name = url.rsplit("/", 1)[-1]
                pooch.retrieve(url, checksum, fname=name, path=aside, processor=unpack, progressbar=True)
            for file in reversed(folder(Path(aside))):  # train last: where it lies, the others do, too
                file.replace(root / file.name)
    except requests.RequestException as error:
        raise UserError(f"Could not download {url}: {_root_cause(error)}. {advice}") from error
    except OSError as error:
        raise UserError(f"Could not write to {root}: {error.strerror}. Set data.root to another folder.") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{url} is not the file it should be: {error} {advice}") from error


def _root_cause(error: BaseException) -> str:
    """The shortest true sentence in a chain of network errors."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).rstrip(".")
