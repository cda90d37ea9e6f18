"""Finding and fetching text: every way it can fail is one clear sentence."""

import hashlib
import http.server
import os
import re
import shutil
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from lm.data import Corpus, load_corpus, sources
from lm.data.python_docs import python_docs
from lm.errors import UserError

NOBODY = 65534  # a user who may do nothing


def write_splits(folder: Path, pattern: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "valid", "test"):
        (folder / pattern.format(split=split)).write_text(f"{split} text\n")


@pytest.mark.parametrize("pattern", sources.FILE_NAMES)
@pytest.mark.parametrize("below", ["", "unpacked"])
def test_folder_finds_splits_under_every_name(tmp_path, pattern, below):
    write_splits(tmp_path / below, pattern)
    found = sources.folder(tmp_path)
    assert [file.read_text() for file in found] == ["train text\n", "valid text\n", "test text\n"]


def test_folder_without_text_says_what_to_put_where(tmp_path):
    with pytest.raises(UserError, match=r"No text in root=.*put \{train,valid,test\}.txt .*use python_docs"):
        sources.folder(tmp_path)


@pytest.mark.parametrize(
    "places", [[("penn", "{split}.txt"), ("wiki", "{split}.txt")], [("", "{split}.txt"), ("", "ptb.{split}.txt")]]
)
def test_several_texts_to_choose_from_are_refused_by_name(tmp_path, places):
    for place, pattern in places:
        write_splits(tmp_path / place, pattern)
    shown = [str(tmp_path / place / pattern.format(split="{train,valid,test}")) for place, pattern in places]
    with pytest.raises(UserError, match=re.escape(f"holds several texts, {shown[0]} and {shown[1]}: set root")):
        sources.folder(tmp_path)


def test_the_text_in_root_wins_over_those_in_folders_and_a_whole_text_over_parts_of_one(tmp_path):
    for place in ("a", "b"):
        write_splits(tmp_path / place, "{split}.txt")
    (tmp_path / "b" / "test.txt").unlink()
    assert sources.folder(tmp_path).train == tmp_path / "a" / "train.txt"
    write_splits(tmp_path, "wiki.{split}.tokens")
    assert sources.folder(tmp_path).train == tmp_path / "wiki.train.tokens"
    (tmp_path / "wiki.test.tokens").unlink()
    with pytest.raises(UserError, match=r"The test split is missing: put it at .*wiki\.test\.tokens"):
        sources.folder(tmp_path)


def test_compressed_splits_are_to_be_unpacked(tmp_path):
    (tmp_path / "train.txt.gz").touch()
    with pytest.raises(UserError, match=r"No text in root=.* \(unpack the compressed files there\)"):
        sources.folder(tmp_path)


def test_a_named_corpus_is_refused_where_another_text_lies_in_its_place(server, tmp_path):
    served, address = server
    files = checksums(served, address)
    shutil.copytree(served, tmp_path / "root" / "below")
    sources.download(tmp_path / "root", files)
    (tmp_path / "root" / "below" / "test.txt").write_text("other text\n")
    with pytest.raises(UserError, match=r"test\.txt is not the test split of this corpus: use text"):
        sources.download(tmp_path / "root", files)


@pytest.mark.parametrize("source", [python_docs, partial(sources.download, files={})])
def test_a_file_in_the_place_of_a_named_corpus_is_refused_with_the_option_that_reads_it(source, tmp_path):
    file = tmp_path / "novel.txt"
    file.write_text("a b c\n")
    with pytest.raises(UserError, match=f"data.root={file} given, .*: add data=text"):
        source(file)


def test_a_checksum_is_computed_once_for_each_content(tmp_path, monkeypatch):
    (tmp_path / "x").write_text("a")
    first = sources.digest(tmp_path / "x")
    monkeypatch.setattr(sources.hashlib, "file_digest", None)
    assert sources.digest(tmp_path / "x") == first
    (tmp_path / "x").write_text("bc")
    with pytest.raises(TypeError):
        sources.digest(tmp_path / "x")


def test_missing_split_is_named(tmp_path):
    write_splits(tmp_path, "{split}.txt")
    (tmp_path / "valid.txt").unlink()
    with pytest.raises(UserError, match=r"The valid split is missing: put it at .*valid\.txt"):
        sources.folder(tmp_path)


def test_empty_split_is_named(tmp_path):
    write_splits(tmp_path, "{split}.txt")
    (tmp_path / "test.txt").write_text("")
    with pytest.raises(UserError, match=r"The test split .*test\.txt is empty"):
        sources.folder(tmp_path)


@pytest.fixture
def server(tmp_path):
    """A web server of our own on this machine; gives the folder it serves and its address."""
    served = tmp_path / "served"
    write_splits(served, "{split}.txt")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
        yield served, f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


def checksums(served: Path, address: str) -> dict[str, str]:
    return {
        f"{address}/{file.name}": "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest() for file in served.iterdir()
    }


def test_download_fetches_once(server, tmp_path):
    served, address = server
    files = checksums(served, address)
    found = sources.download(tmp_path / "root", files)
    assert [file.read_text() for file in found] == ["train text\n", "valid text\n", "test text\n"]
    for file in served.iterdir():
        file.unlink()
    assert sources.download(tmp_path / "root", files) == found


def test_runs_that_start_at_once_share_download_and_cache(server, tmp_path):
    served, address = server
    files = checksums(served, address)

    def corpus(_: int) -> Corpus:
        return load_corpus(sources.download(tmp_path / "root", files), tmp_path / "cache")

    with ThreadPoolExecutor(8) as runs:
        results = list(runs.map(corpus, range(8)))
    assert all(torch.equal(result.train, results[0].train) for result in results)
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["test.txt", "train.txt", "valid.txt"]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_folder_that_may_only_be_read_is_enough(text_folder, tmp_path):
    root, cache = tmp_path / "root", tmp_path / "cache"
    shutil.copytree(text_folder, root, ignore=shutil.ignore_patterns("cache"))
    cache.mkdir()
    for file in root.iterdir():
        file.chmod(0o444)
    root.chmod(0o555)
    user = os.geteuid()
    if user == 0:  # who may write anywhere
        os.chown(cache, NOBODY, NOBODY)
        for parent in (tmp_path, *tmp_path.parents[:3]):
            parent.chmod(parent.stat().st_mode | 0o011)
        os.seteuid(NOBODY)
    try:
        with pytest.raises(PermissionError):
            (root / "new").touch()
        corpus = load_corpus(sources.folder(root), cache)
    finally:
        os.seteuid(user)
    assert len(corpus.train) > 1000
    assert len(list(cache.glob("*.pt"))) == 1


def test_download_unpacks_an_archive(server, tmp_path):
    served, address = server
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as archive:
        for file in list(served.iterdir()):
            archive.write(file, f"corpus/wiki.{file.stem}.tokens")
            file.unlink()
    (tmp_path / "corpus.zip").rename(served / "corpus.zip")
    found = sources.download(tmp_path / "root", checksums(served, address))
    assert found.train.read_text() == "train text\n"
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [
        "wiki.test.tokens",
        "wiki.train.tokens",
        "wiki.valid.tokens",
    ]


def test_wrong_checksum_leaves_nothing_behind_and_says_what_to_do(server, tmp_path):
    served, address = server
    files = checksums(served, address)
    (served / "valid.txt").write_text("something else")
    with pytest.raises(UserError, match=r"valid\.txt is not the file it should be.*Put the files into root="):
        sources.download(tmp_path / "root", files)
    assert list((tmp_path / "root").iterdir()) == []


def test_no_network_says_what_to_do(tmp_path):
    files = {"http://127.0.0.1:9/train.txt": "sha256:" + "0" * 64}
    with pytest.raises(UserError, match=r"Could not download http://127\.0\.0\.1:9/train\.txt.*use python_docs"):
        sources.download(tmp_path / "root", files)


def test_download_into_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write root=.*: Not a directory\."):
        sources.download(tmp_path / "file" / "root", {"http://127.0.0.1:9/train.txt": "sha256:0"})
