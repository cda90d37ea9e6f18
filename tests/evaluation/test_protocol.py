"""The protocols: which words are scored, and what each has before it."""

import pytest
import torch

from lm.errors import UserError
from lm.evaluation.protocol import Protocol
from tests.conftest import make_model

TEXT = torch.arange(100, 203)  # every word another one


def scored(protocol: Protocol) -> list[tuple[int, list[int]]]:
    """Each scored word with the words before it in its window."""
    found = []
    for inputs, targets in protocol.windows(TEXT, eos_id=0):
        overlap = len(inputs) - len(targets)
        for t in range(len(targets)):
            for b in range(targets.size(1)):
                found.append((int(targets[t, b]), inputs[: overlap + t + 1, b].tolist()))
    return [(word, before) for word, before in found if word >= 0]


@pytest.mark.parametrize("batch_size", [1, 3, 10])
@pytest.mark.parametrize(("context", "stride"), [(8, 8), (8, 3), (8, 1), (5, 4), (1, 1), (500, 20)])
def test_every_word_is_scored_once_after_at_least_context_minus_stride_words(batch_size, context, stride):
    found = scored(Protocol(batch_size, False, context, stride))
    assert sorted(word for word, _ in found) == TEXT.tolist()
    rows = -(-len(TEXT) // batch_size)
    for word, before in found:
        row = (word - 100) % rows  # words before it in the stream, besides the one that the stream starts with
        assert min(row, context - stride) + 1 <= len(before) <= context
        expected = [0, *TEXT.tolist()][word - 100 + 1 - len(before) : word - 100 + 1]
        assert before == expected


def test_trimmed_streams_leave_out_first_words_and_the_rest():
    found = scored(Protocol(10, True, 4, 4))
    assert len(found) == 10 * (103 // 10 - 1)
    assert not {word for word, _ in found} & {100, 110, 120, 190, 200, 202}


def test_a_recurrent_core_scores_whole_windows_and_a_transformer_half_of_each():
    lstm, transformer = make_model("lstm").core, make_model("transformer", context=16).core
    assert Protocol.for_core(lstm) == Protocol(10, False, 35, 35)
    assert Protocol.for_core(transformer) == Protocol(10, False, 16, 8)
    assert Protocol.for_core(transformer, context=1).stride == 1
    assert Protocol.for_core(lstm, context=20, stride=20).stride == 20


@pytest.mark.parametrize(
    ("core", "stride", "message"),
    [
        ("lstm", 10, "this model carries its state"),
        ("transformer", 21, r"must be at most evaluation\.context=20"),
    ],
)
def test_a_stride_that_makes_no_sense_is_refused(core, stride, message):
    with pytest.raises(UserError, match=message):
        Protocol.for_core(make_model(core).core, context=20, stride=stride)


def test_a_text_too_short_to_trim_is_refused():
    with pytest.raises(UserError, match=r"evaluation\.batch_size=60 given, but 103 tokens"):
        Protocol(60, True, 35, 35).windows(TEXT, 0)
