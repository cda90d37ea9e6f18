"""Files appear complete or not at all; a stream is written in place."""

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from lm.errors import UserError
from lm.files.atomic import atomic_folder, atomic_write, check_writable
from lm.files.text import write_text
from lm.training.resume.checkpoint_io import AtomicCheckpointIO
from tests.conftest import PROCESS_TIMEOUT


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text("old", tmp_path / "x")
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "x") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_an_interrupted_folder_leaves_nothing_and_a_full_one_is_never_replaced(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "x") as folder:
        (folder / "half").write_text("")
        raise KeyboardInterrupt
    assert names(tmp_path) == []
    with atomic_folder(tmp_path / "x") as folder:
        (folder / "whole").write_text("")
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "x"):
        pass
    assert names(tmp_path / "x") == ["whole"]


def test_a_temporary_is_no_checkpoint_and_that_of_a_dead_process_is_removed_by_the_next_writer(tmp_path):
    killed = "import os, sys; from pathlib import Path; from lm.files.atomic import atomic_write\n"
    killed += "with atomic_write(Path(sys.argv[1])) as file: file.write(b'half'); file.flush(); os._exit(9)"
    subprocess.run([sys.executable, "-c", killed, tmp_path / "last.ckpt"], timeout=PROCESS_TIMEOUT)
    [left] = tmp_path.iterdir()
    assert not list(tmp_path.glob("*.ckpt")) and left.read_bytes() == b"half"
    foreign = tmp_path / left.name.replace(socket.gethostname(), "other-host")
    foreign.write_bytes(b"of a process that cannot be looked at from here")
    write_text("whole", tmp_path / "last.ckpt")
    assert names(tmp_path) == sorted([foreign.name, "last.ckpt"])


def test_a_link_stays_a_link_and_a_file_keeps_its_mode(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "target").chmod(0o640)
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("later")
    for name in ("link", "dangling"):
        write_text("new", tmp_path / name)
        assert (tmp_path / name).is_symlink() and (tmp_path / name).read_text() == "new"
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o640
    assert names(tmp_path) == ["dangling", "later", "link", "target"]


def test_a_fifo_a_descriptor_and_a_device_are_written_and_stay(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    check_writable(tmp_path / "fifo")  # does not wait for its reader
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "fifo").read_text()))
    reader.start()
    write_text("through", tmp_path / "fifo")
    reader.join(10)
    assert found == ["through"] and (tmp_path / "fifo").is_fifo()

    receives, sends = os.pipe()
    write_text("through", f"/dev/fd/{sends}")
    assert os.read(receives, 100) == b"through"
    with pytest.raises(UserError, match="it is not open for writing"):
        check_writable(f"/dev/fd/{receives}")

    (tmp_path / "null").symlink_to("/dev/null")
    check_writable(tmp_path / "null")
    write_text("away", tmp_path / "null")
    assert Path("/dev/null").is_char_device() and names(tmp_path) == ["fifo", "null"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("write", [lambda path: write_text("x" * 10_000, path), lambda path: save_checkpoint(path)])
def test_a_full_device_is_one_line_with_the_systems_reason(write):
    with pytest.raises(UserError, match=r"Cannot write .*/dev/full.*No space left on device") as caught:
        write("/dev/full")
    assert "\n" not in str(caught.value)


def save_checkpoint(path):
    AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(10_000)}, path)


def test_what_the_disk_refuses_only_at_the_end_leaves_the_old_file(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "last.ckpt")
    before = (tmp_path / "last.ckpt").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_checkpoint(tmp_path / "last.ckpt")
    assert names(tmp_path) == ["last.ckpt"] and (tmp_path / "last.ckpt").read_bytes() == before


def test_a_check_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "new" / "folder" / "x.json")
    assert names(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Not a directory"):
        check_writable(tmp_path / "file" / "folder" / "x.json")


def test_a_folder_is_written_where_folders_cannot_be_synced(tmp_path, monkeypatch):
    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", sync)
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "config.json").write_text("{}")
    assert names(tmp_path / "model") == ["config.json"]
