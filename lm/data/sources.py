"""Where text comes from: a function `(root) -> Splits` for a folder of files and for a download."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pooch
import requests

from lm.errors import UserError
from lm.files import system_reason
from lm.files.atomic import replace, sync, temporary

FILE_NAMES = ("{split}.txt", "wiki.{split}.tokens", "ptb.{split}.txt")


class Splits(NamedTuple):
    """The three text files of a corpus: words separated by white space, one sentence or paragraph a line."""

    train: Path
    valid: Path
    test: Path


def folder(root: Path) -> Splits:
    """The splits that lie in `root`, or else in a folder directly below it, under any of FILE_NAMES.

    Raises:
        UserError: if a split is missing or empty, or there are several corpora to choose from.
    """
    candidates = _candidates([root]) or _candidates(sorted(path for path in root.glob("[!.]*") if path.is_dir()))
    whole = [files for files in candidates if all(file.is_file() for file in files)]
    if len(whole) > 1:
        found = " and ".join(_shown(files) for files in whole)
        raise UserError(
            f"data.root={root} holds several texts, {found}: set data.root to a folder that holds only one."
        )
    if candidates:
        return _complete((whole or candidates)[0])
    names = " or ".join(pattern.format(split="{train,valid,test}") for pattern in FILE_NAMES)
    packed = " (unpack the compressed files there)" if any(root.glob("*train*.*z*")) else ""
    raise UserError(
        f"No text in data.root={root}{packed}: put {names} there, set data.root to a folder that has them, "
        "or use data=python_docs, which needs no files."
    )


def download(root: Path, files: Mapping[str, str]) -> Splits:
    """The splits in `root`; where there are none, `files` (address → "algorithm:checksum") are fetched first.

    Archives (`.zip`) are unpacked. Each file enters `root` whole and checked, or not at all. Splits that lie there
    already must have the checksums of `files`, too, where these are not archives.

    Raises:
        UserError: if a split is missing, empty or of another text, the network is out of reach, or a checksum is wrong.
    """
    folders = [root, *(path for path in root.glob("[!.]*") if path.is_dir())]
    if not any(splits.train.is_file() for splits in _candidates(folders)):
        _fetch(root, files)
    splits = folder(root)
    for split, file in zip(Splits._fields, splits, strict=True):
        for address, checksum in files.items():
            algorithm, _, expected = checksum.partition(":")
            if split in address.rsplit("/", 1)[-1] and digest(file, algorithm) != expected:
                raise UserError(
                    f"{file} is not the {split} split that this data config names: use data=text data.root={root} for "
                    "other text, or another data.root, into which the right one is downloaded."
                )
    return splits


def has_checksums(source: Callable[[Path], Splits]) -> bool:
    """Whether a source gives the same text everywhere, as `download` does."""
    return getattr(source, "func", None) is download


def digest(file: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file in hexadecimal digits, computed once for each of its contents."""
    facts = file.stat()
    return _digest(file, algorithm, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache
def _digest(file: Path, algorithm: str, *facts: int) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, algorithm).hexdigest()


def _candidates(folders: Iterable[Path]) -> list[Splits]:
    """All splits of which any file is there."""
    named = (
        Splits(*(each / name.format(split=split) for split in Splits._fields))
        for each in folders
        for name in FILE_NAMES
    )
    return [splits for splits in named if any(file.is_file() for file in splits)]


def _shown(splits: Splits) -> str:
    return str(splits.train.with_name(splits.train.name.replace("train", "{train,valid,test}")))


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
        with temporary(root) as unfinished:
            unfinished.mkdir()
            for url, checksum in files.items():
                unpack = pooch.Unzip(extract_dir=".") if url.endswith(".zip") else None
                name = url.rsplit("/", 1)[-1]
                pooch.retrieve(url, checksum, fname=name, path=unfinished, processor=unpack, progressbar=True)
            for file in reversed(folder(unfinished)):  # train last: where it lies, the others do, too
                sync(file)
                replace(file, root / file.name)
    except requests.RequestException as error:
        raise UserError(f"Could not download {url}: {_root_cause(error)}. {advice}") from error
    except OSError as error:
        reason = system_reason(error)
        raise UserError(f"Cannot write to data.root={root}: {reason}. Set data.root to another folder.") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{url} is not the file it should be: {error} {advice}") from error


def _root_cause(error: BaseException) -> str:
    """The shortest true sentence in a chain of network errors."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).rstrip(".")
