"""The data module: each process its own streams, and sizes that do not fit refused."""

from types import SimpleNamespace

import pytest
import torch

from lm.data.datamodule import TextDataModule
from lm.data.sources import Splits, folder
from lm.errors import UserError
from lm.ops import IGNORE_INDEX
from tests.conftest import needs_gpu


@pytest.fixture
def make_data(text_folder, tmp_path):
    def make(world_size=1, rank=0, device="cpu", **options):
        data = TextDataModule(folder, text_folder, tmp_path, bptt=8, **options)
        strategy = SimpleNamespace(root_device=torch.device(device))
        data.trainer = SimpleNamespace(world_size=world_size, global_rank=rank, strategy=strategy)
        return data

    return make


def targets_of(windows):
    return torch.cat([window.targets for window in windows])


@pytest.mark.parametrize("partial_shuffle", [False, True])
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_streams_of_one(make_data, world_size, partial_shuffle):
    options = {"batch_size": 6, "eval_batch_size": 7, "partial_shuffle": partial_shuffle}
    alone = make_data(**options)
    together = [make_data(world_size, rank, **options) for rank in range(world_size)]
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        parts = [getattr(data, loader)() for data in together]
        assert len({len(part) for part in parts}) == 1, "every process needs the same number of windows"
        whole = targets_of(getattr(alone, loader)())
        assert torch.equal(torch.cat([targets_of(part) for part in parts], dim=1), whole)


@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=needs_gpu)])
def test_partly_shuffled_windows_are_on_the_device_of_the_text(make_data, device):
    windows = make_data(device=device, partial_shuffle=True).train_dataloader()
    assert {ids.device.type for window in windows for ids in window} == {device}


@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=needs_gpu)])
def test_windows_are_slices_of_a_text_on_the_device(make_data, device):
    data = make_data(device=device)
    train, valid, test = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    for windows in (train, valid, test):
        assert {ids.device.type for window in windows for ids in window} == {device}
        assert windows.streams.inputs.dtype == torch.int32
    [inputs, targets] = train.streams
    assert inputs.untyped_storage()._cdata == targets.untyped_storage()._cdata, "the text is there once"


def test_on_a_cpu_windows_are_slices_of_the_memory_mapped_text(make_data):
    data = make_data()
    assert data.train_dataloader().streams.inputs.data_ptr() == data.corpus.train.data_ptr()


@pytest.mark.parametrize("eval_batch_size", [1, 3, 10])
def test_validation_and_test_score_every_token(make_data, eval_batch_size):
    data = make_data(eval_batch_size=eval_batch_size)
    for windows, split in ((data.val_dataloader(), data.corpus.valid), (data.test_dataloader(), data.corpus.test)):
        targets = targets_of(windows)
        scored = targets[targets != IGNORE_INDEX]
        assert torch.equal(scored.sort().values, split.long().sort().values)


def test_trimmed_evaluation_scores_what_the_example_scores(make_data):
    data = make_data(eval_batch_size=10, eval_trim=True)
    rows = len(data.corpus.valid) // 10
    assert targets_of(data.val_dataloader()).shape == (rows - 1, 10)


def test_the_partial_shuffle_is_for_training_only(make_data):
    shuffled, plain = make_data(partial_shuffle=True), make_data()
    for loader in ("val_dataloader", "test_dataloader"):
        assert torch.equal(*(targets_of(getattr(data, loader)()) for data in (shuffled, plain)))
    first, second = (targets_of(data.train_dataloader()) for data in (shuffled, plain))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(dim=0).values, second.sort(dim=0).values)


def test_jitter_is_for_training_only(make_data):
    data = make_data(bptt_jitter=True)
    assert len({len(window.inputs) for window in data.train_dataloader()}) > 3
    assert {len(window.inputs) for window in list(data.val_dataloader())[:-1]} == {8}


def test_batch_size_that_the_corpus_does_not_allow_is_refused(make_data):
    with pytest.raises(UserError, match=r"^batch_size=5000 given, but \d+ tokens of text allow at most \d+"):
        make_data(batch_size=5000).train_dataloader()


def test_batch_size_that_the_devices_cannot_share_is_refused(make_data):
    with pytest.raises(
        UserError, match=r"^batch_size=5 given, but it cannot be divided among 2 devices: use a multiple of 2"
    ):
        make_data(world_size=2, batch_size=5).train_dataloader()


def test_fewer_evaluation_streams_than_devices_are_refused(make_data):
    with pytest.raises(UserError, match=r"^eval_batch_size=2 given, but each of 3 devices"):
        make_data(world_size=3, eval_batch_size=2).val_dataloader()


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size", "bptt", "min_count", "max_size"])
def test_sizes_below_one_are_refused_before_any_text_is_read(tmp_path, name):
    with pytest.raises(UserError, match=f"{name}=0 given"):
        TextDataModule(folder, tmp_path / "missing", tmp_path, **{name: 0})


def test_text_that_cannot_be_read_is_one_line(tmp_path):
    def unreadable(root):
        raise PermissionError(13, "Permission denied", str(root / "train.txt"))

    def dangling(root):
        return Splits(*(root / name for name in "abc"))

    with pytest.raises(UserError, match=r"^Cannot read the text in root=.*: Permission denied\.$"):
        TextDataModule(unreadable, tmp_path, tmp_path / "cache").train_dataloader()
    with pytest.raises(UserError, match=r"^Cannot read /.*/a: No such file or directory\.$"):
        TextDataModule(dangling, tmp_path, tmp_path / "cache").train_dataloader()
