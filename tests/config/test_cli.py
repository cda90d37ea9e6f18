"""Mistakes in one line."""

import os
from pathlib import Path

import pytest
import torch
from hydra.errors import CompactHydraException, InstantiationException
from omegaconf import DictConfig

from lm.config.cli import ERROR_FILE, STOPPED, one_line_errors, reason_left_in
from lm.errors import UserError


def raising(error):
    @one_line_errors
    def main(config):
        raise error

    return main


def test_a_users_mistake_becomes_one_line():
    with pytest.raises(CompactHydraException, match=r"^two words$"):
        raising(UserError("two\n words"))(DictConfig({}))


def test_a_path_in_a_message_keeps_its_blanks():
    with pytest.raises(CompactHydraException, match=r"^No text in a  b\.$"):
        raising(UserError("No text in a  b."))(DictConfig({}))


def test_a_file_name_that_is_not_utf8_becomes_one_line():
    with pytest.raises(UnicodeEncodeError) as caught:
        os.fsdecode(b"/a\xff/b").encode()
    with pytest.raises(CompactHydraException, match=r"^The name of a file or folder is not UTF-8: .*/a.*/b"):
        raising(caught.value)(DictConfig({}))


def test_a_path_that_is_too_long_becomes_one_line():
    with pytest.raises(OSError, match="too long") as caught:
        Path(5000 * "a").is_file()
    with pytest.raises(CompactHydraException, match=r"^a+\.\.\. given, but it is no path: File name too long\.$"):
        raising(caught.value)(DictConfig({}))


def test_a_users_mistake_inside_instantiate_becomes_one_line():
    wrapped = InstantiationException("Error in call to target ...")
    wrapped.__cause__ = UserError("num_heads=3")
    with pytest.raises(CompactHydraException, match=r"^num_heads=3$"):
        raising(wrapped)(DictConfig({}))


def test_too_little_memory_becomes_one_line():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    with pytest.raises(
        CompactHydraException, match=r"^Out of memory \(.*\): use smaller batches, windows or models\.$"
    ):
        raising(caught.value)(DictConfig({}))


def test_a_broken_pipe_other_than_that_of_the_output_is_a_defect(capfd):
    with pytest.raises(BrokenPipeError):
        raising(BrokenPipeError("of a logger's server"))(DictConfig({}))


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ValueError, match="ours"):
        raising(ValueError("ours"))(DictConfig({}))


@pytest.mark.parametrize("error", [SystemExit(143), KeyboardInterrupt()])
def test_a_run_that_a_signal_ends_by_an_exit_was_stopped(error, tmp_path):
    with pytest.raises(type(error)), reason_left_in(tmp_path):
        raise error
    assert (tmp_path / ERROR_FILE).read_text() == STOPPED
    with pytest.raises(SystemExit), reason_left_in(tmp_path):
        raise SystemExit("bad data")
    assert "bad data" in (tmp_path / ERROR_FILE).read_text()
