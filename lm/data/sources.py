"""Sources of text: functions `(root) -> Splits`, for a folder of files and for a download."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from lm.data.split import split_text
from lm.errors import UserError
from lm.files.atomic import replace, temporary
from lm.files.errors import explain_os_errors

FILE_NAMES = ("{split}.txt", "wiki.{split}.tokens", "ptb.{split}.txt")


class Splits(NamedTuple):
    """The three text files of a corpus: words separated by white space, one sentence or paragraph per line."""

    train: Path
    valid: Path
    test: Path


def folder(root: Path) -> Splits:
    """The splits in `root`, or else in a folder directly below it, under any of FILE_NAMES."""
    candidates = _found(root)
    complete = [files for files in candidates if all(file.is_file() for file in files)]
    if len(complete) > 1:
        every_split = (train.with_name(train.name.replace("train", "{train,valid,test}")) for train, *_ in complete)
        found = " and ".join(map(str, every_split))
        raise UserError(f"root={root} holds several texts, {found}: set root to a folder that holds only one.")
    if not root.exists():
        raise UserError(f"No text in root={root}: there is no such file or folder.")
    if not candidates:
        names = " or ".join(pattern.format(split="{train,valid,test}") for pattern in FILE_NAMES)
        packed = " (unpack the compressed files there)" if any(root.glob("*train*.*z*")) else ""
        raise UserError(
            f"No text in root={root}{packed}: put {names} there, set root to a folder that has them, "
            "or use python_docs, which needs no files."
        )
    splits = (complete or candidates)[0]
    for split, file in zip(Splits._fields, splits, strict=True):
        if not file.is_file():
            raise UserError(f"The {split} split is missing: put it at {file}, beside the others.")
        if file.stat().st_size == 0:
            raise UserError(f"The {split} split {file} is empty: put the text there, or delete all three files.")
    return splits


def file_or_folder(root: Path) -> Splits:
    """The splits of a folder; of one text, a file or a folder with only a training split, those that it is cut into.

    These are written once, to a folder beside the text that is named after it and its checksum; see `lm.data.split`.
    """
    text = root if root.is_file() else _only_training_split(root)
    if text is None:
        return folder(root)
    name = root.stem if root.is_file() else root.name
    home = text.parent / f"{name}-{digest(text)[:8]}"
    splits = Splits(*(home / f"{split}.txt" for split in Splits._fields))
    if not all(file.is_file() for file in splits):
        split_text(text, splits)
    return splits


def refuse_file(root: Path) -> None:
    """Refuse a file in the place of a named corpus's folder."""
    if root.is_file():
        raise UserError(
            f"data.root={root} given, which is a file, but the text is that of a corpus with its own folder: add "
            "data=text to read the file."
        )


def download(root: Path, files: Mapping[str, str]) -> Splits:
    """The splits in `root`; where there are none, download `files` (URL → "algorithm:checksum") first.

    Archives (`.zip`) are unpacked. Files are verified, and moved into `root` atomically. Existing splits must match the
    checksums of `files`, too, unless these are archives.
    """
    refuse_file(root)
    if not any(splits.train.is_file() for splits in _found(root)):
        _fetch(root, files)
    splits = folder(root)
    for split, file in zip(Splits._fields, splits, strict=True):
        for url, checksum in files.items():
            algorithm, _, expected = checksum.partition(":")
            if split in url.rsplit("/", 1)[-1] and digest(file, algorithm) != expected:
                raise UserError(
                    f"{file} is not the {split} split of this corpus: use text, which reads any folder, or set root to "
                    "another folder, into which the right one is downloaded."
                )
    return splits


def has_checksums(source: Callable[[Path], Splits]) -> bool:
    """Whether a source is one of downloaded files, whose checksums `download` knows."""
    return getattr(source, "func", None) is download


def digest(file: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file in hexadecimal digits, cached by its size and modification time."""
    with explain_os_errors(f"read {file}"):
        stat = file.stat()
        return digest_of_version(file, algorithm, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache
def digest_of_version(file: Path, algorithm: str, *size_and_mtime: int) -> str:
    """The checksum of a file that has this size and modification time."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, algorithm).hexdigest()


def _found(root: Path) -> list[Splits]:
    """The splits in a folder of which any file is there, or else those in the folders directly below it."""
    return _candidates([root]) or _candidates(sorted(path for path in root.glob("[!.]*") if path.is_dir()))


def _candidates(folders: Iterable[Path]) -> list[Splits]:
    """All splits of which any file is there."""
    named = (
        Splits(*(each / name.format(split=split) for split in Splits._fields))
        for each in folders
        for name in FILE_NAMES
    )
    return [splits for splits in named if any(file.is_file() for file in splits)]


def _only_training_split(root: Path) -> Path | None:
    """The training split of a folder that holds no other."""
    candidates = _found(root)
    if len(candidates) == 1 and [file.is_file() for file in candidates[0]] == [True, False, False]:
        return candidates[0].train
    return None


def _fetch(root: Path, files: Mapping[str, str]) -> None:
    import pooch  # here: a text that is there already needs no network
    import requests

    advice = f"Put the files into root={root} yourself, or use python_docs, which needs no download."
    with explain_os_errors(f"write root={root}"), temporary(root) as unfinished:
        unfinished.mkdir()
        for url, checksum in files.items():
            unpack = pooch.Unzip(extract_dir=".") if url.endswith(".zip") else None
            name = url.rsplit("/", 1)[-1]
            try:
                pooch.retrieve(url, checksum, fname=name, path=unfinished, processor=unpack, progressbar=True)
            except requests.RequestException as error:
                raise UserError(f"Could not download {url}: {_root_cause(error)}. {advice}") from error
            except ValueError as error:
                raise UserError(f"{url} is not the file it should be: {error} {advice}") from error
        for file in reversed(folder(unfinished)):  # train last: if it exists, so do the others
            replace(file, root / file.name)


def _root_cause(error: BaseException) -> str:
    """The message of the innermost of a chain of network errors."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).rstrip(".")
