"""BPTT windows: every target is the token after its input, streams stay streams, and iteration can resume."""

import itertools

import pytest
import torch

from lm.data.windows import (
    IGNORE_INDEX,
    Window,
    Windows,
    batchify,
    batchify_padded,
    jittered_lengths,
    split_length,
)

EOS_ID = 999


def text_of(length: int) -> torch.Tensor:
    return torch.arange(length, dtype=torch.int32)


def joined(windows) -> Window:
    parts = list(windows)
    return Window(*(torch.cat([part[i] for part in parts]) for i in range(2)))


def test_batchify_cuts_streams_with_targets_one_later():
    inputs, targets = batchify(text_of(23), 4)
    assert inputs.T.tolist() == [[0, 1, 2, 3], [5, 6, 7, 8], [10, 11, 12, 13], [15, 16, 17, 18]]
    assert torch.equal(targets, inputs + 1)


def test_batchified_streams_are_views_of_the_text():
    text = text_of(1000)
    inputs, targets = batchify(text, 10)
    assert {inputs.untyped_storage().data_ptr(), targets.untyped_storage().data_ptr()} == {
        text.untyped_storage().data_ptr()
    }


@pytest.mark.parametrize("length", [1, 2, 7, 23, 100])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 10])
@pytest.mark.parametrize("bptt", [1, 4, 200])
def test_evaluation_scores_every_token_once_in_view_of_the_word_before_it(length, batch_size, bptt):
    inputs, targets = joined(Windows(batchify_padded(text_of(length), batch_size, EOS_ID), bptt))
    scored = targets != IGNORE_INDEX
    assert sorted(targets[scored].tolist()) == list(range(length))
    context_of = dict(zip(targets[scored].tolist(), inputs[scored].tolist(), strict=True))
    assert context_of == {i: EOS_ID if i == 0 else i - 1 for i in range(length)}


@pytest.mark.parametrize("bptt", [1, 3, 5, 100])
def test_windows_joined_are_the_streams(bptt):
    streams = batchify(text_of(50), 4)
    windows = Windows(streams, bptt)
    parts = list(windows)
    assert len(parts) == len(windows) == -(-11 // bptt)
    assert all(len(part.inputs) == bptt for part in parts[:-1])
    together = joined(parts)
    assert together.inputs.dtype == torch.long
    assert torch.equal(together.inputs, streams.inputs)
    assert torch.equal(together.targets, streams.targets)


def test_the_examples_protocol_leaves_its_documented_tokens_unscored():
    _, targets = batchify(text_of(245_569), 10)
    assert targets.numel() == (245_569 // 10 - 1) * 10 == 245_550


def test_jittered_windows_cover_the_streams_with_other_boundaries_each_epoch():
    streams = batchify(text_of(4000), 2)
    windows = Windows(streams, 35, jitter=True, seed=1)
    epochs = [[len(part.inputs) for part in windows] for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert {len(epoch) for epoch in epochs} == {len(windows)}
    assert torch.equal(joined(windows).inputs, streams.inputs)
    same_seed, other_seed = (Windows(streams, 35, jitter=True, seed=seed) for seed in (1, 2))
    assert [len(part.inputs) for part in same_seed] == epochs[0]
    assert [len(part.inputs) for part in other_seed] != epochs[0]


def test_jittered_lengths_follow_their_distribution():
    lengths = torch.tensor(jittered_lengths(700_000, 70, torch.Generator().manual_seed(0))[:-1], dtype=torch.float)
    short = lengths < 52
    assert 0.03 < short.float().mean() < 0.07
    assert lengths[~short].mean() == pytest.approx(69.5, abs=0.5)  # rounded down
    assert lengths[~short].std() == pytest.approx(5, abs=0.3)
    assert lengths.min() >= 5


def test_every_epoch_starts_at_the_beginning():
    windows = Windows(batchify(text_of(50), 4), 3)
    next(iter(windows))
    assert torch.equal(joined(windows).inputs, joined(windows).inputs)


@pytest.mark.parametrize("partial_shuffle", [False, True])
@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("taken", [1, 5])
def test_a_restored_iteration_begins_with_the_window_that_was_under_way(partial_shuffle, jitter, taken):
    streams = batchify(text_of(2000), 4)
    windows = Windows(streams, 20, jitter, 3, partial_shuffle)
    list(windows)  # an epoch before, so that the epoch counts
    iterator = iter(windows)
    *_, under_way = itertools.islice(iterator, taken)
    state = windows.state_dict()
    rest = [part.inputs.tolist() for part in (under_way, *iterator)]
    restored = Windows(streams, 20, jitter, 3, partial_shuffle)
    restored.load_state_dict(state)
    assert [part.inputs.tolist() for part in restored] == rest
    assert [part.inputs.tolist() for part in restored] == [part.inputs.tolist() for part in windows]


def rotated(streams: Window, offsets: list[int]) -> Window:
    """A plain loop: each stream from its offset to its end, then from its beginning."""
    parts = [[torch.cat([ids[offset:, i], ids[:offset, i]]) for i, offset in enumerate(offsets)] for ids in streams]
    return Window(*(torch.stack(part, dim=1).long() for part in parts))


@pytest.mark.parametrize("jitter", [False, True])
def test_a_partial_shuffle_rotates_each_stream_anew_in_every_epoch(jitter):
    streams = batchify(text_of(2000), 4)
    windows = Windows(streams, 35, jitter, seed=1, partial_shuffle=True)
    plain = Windows(streams, 35, jitter, seed=1)
    starts = []
    for _ in range(3):
        parts = list(windows)
        together = joined(parts)
        offsets = [each - 500 * i for i, each in enumerate(together.inputs[0].tolist())]
        expected = rotated(streams, offsets)
        assert torch.equal(together.inputs, expected.inputs)
        assert torch.equal(together.targets, expected.targets)
        assert torch.equal(together.targets, together.inputs + 1), "every input keeps its target"
        assert [len(part.inputs) for part in parts] == [len(part.inputs) for part in plain]
        starts.append(offsets)
    assert len({*map(tuple, starts)}) == 3
    assert all(len({*offsets}) == 4 for offsets in starts)
    other = Windows(streams, 35, jitter, seed=2, partial_shuffle=True)
    assert not torch.equal(joined(other).inputs[0], joined(Windows(streams, 35, jitter, 1, True)).inputs[0])


def test_offsets_of_a_partial_shuffle_are_uniform():
    windows = Windows(batchify(text_of(8004), 4), 2000, seed=1, partial_shuffle=True)
    offsets = torch.cat([next(iter(windows)).inputs[0] % 2001 for _ in range(500)]).double()
    assert offsets.mean() == pytest.approx(1000, abs=60)
    assert offsets.std() == pytest.approx(2000 / 12**0.5, rel=0.05)


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_rotate_their_streams_as_one_process_does(num_ranks):
    streams = batchify(text_of(600), 6)
    whole = Windows(streams, 10, jitter=True, seed=1, partial_shuffle=True)
    parts = []
    for rank in range(num_ranks):
        own = Window(*(ids.tensor_split(num_ranks, dim=1)[rank] for ids in streams))
        parts.append(Windows(own, 10, True, 1, True, rank, num_ranks))
    for _ in range(2):
        expected, found = joined(whole), [joined(part) for part in parts]
        for i in range(2):
            assert torch.equal(torch.cat([each[i] for each in found], dim=1), expected[i])


def test_split_length_leaves_the_rest_to_the_last_window():
    assert split_length(10, 4) == [4, 4, 2]
    assert split_length(8, 4) == [4, 4]


def test_more_evaluation_streams_than_tokens_take_no_more_memory_than_the_tokens():
    inputs, targets = batchify_padded(text_of(7), 10**9, EOS_ID)
    assert inputs.shape == targets.shape == (1, 7)
    assert torch.equal(targets[0], text_of(7))
