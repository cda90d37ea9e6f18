"""A pass over a text: each word's loss is what the model says of it, one by one."""

import gc

import pytest
import torch
from torch.nn import functional as F

from lm import LanguageModel
from lm.data import EOS, UNK, Vocabulary
from lm.evaluation.protocol import Protocol
from lm.evaluation.scoring import Interpolation, score_tokens
from lm.generation.incremental import CHUNK
from tests.conftest import V, make_model


def word_by_word(model, text, protocol):
    """The log-probabilities `[V]` behind each word of a single stream, as plainly as can be."""
    rows, state = [], None
    for i in range(len(text)):
        before = torch.cat([torch.zeros(1, dtype=torch.long), text[:i]])
        if model.core.context is None:
            log_probs, state = model(before[-1:, None], state)
        else:
            start = (
                0
                if i < protocol.context
                else (i - protocol.context) // protocol.stride * protocol.stride + protocol.stride
            )
            log_probs, _ = model(before[start:, None])
        rows.append(log_probs[-1, 0])
    return torch.stack(rows)


def protocol_for(model, **options):
    return Protocol.for_core(model.core, **options)


def windows(protocol, text):
    return protocol.windows(text, eos_id=0)


@torch.no_grad()
def test_losses_are_those_of_reading_word_by_word(core_name):
    model = make_model(core_name, context=6)
    text = torch.randint(V, (40,))
    protocol = protocol_for(model, batch_size=1)
    found = score_tokens(model, windows(protocol, text), [1.0, 0.7])
    rows = word_by_word(model, text, protocol)
    for temperature in (1.0, 0.7):
        expected = F.log_softmax(rows / temperature, -1).gather(1, text[:, None]).squeeze(1)
        torch.testing.assert_close(found.log_probs[temperature], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.targets, text)


def test_words_come_in_the_order_of_the_text_whatever_the_batch_size():
    model = make_model("lstm")
    text = torch.randint(V, (103,))
    for batch_size in (1, 4, 10):
        protocol = protocol_for(model, batch_size=batch_size, context=7)
        assert torch.equal(score_tokens(model, windows(protocol, text)).targets, text)


def test_positions_count_the_words_before_in_the_window():
    model = make_model("transformer", context=6)
    found = score_tokens(model, windows(protocol_for(model, batch_size=1, stride=2), torch.randint(V, (12,))))
    assert found.positions.tolist() == [1, 2, 3, 4, 5, 6, 5, 6, 5, 6, 5, 6]


def test_longer_contexts_come_with_smaller_strides():
    model = make_model("transformer", context=8)
    text = torch.randint(V, (30,))
    losses = [
        score_tokens(model, windows(protocol_for(model, batch_size=1, stride=stride), text)).log_probs[1.0]
        for stride in (8, 1)
    ]
    assert torch.allclose(losses[0][:8], losses[1][:8])
    assert not torch.allclose(losses[0][8:15], losses[1][8:15])


def test_ctrl_c_keeps_what_has_been_read():
    def interrupted(windows):
        yield from windows[:3]
        raise KeyboardInterrupt

    model = make_model("lstm")
    text = torch.randint(V, (100,))
    parts = windows(protocol_for(model, batch_size=2, context=5), text)
    found = score_tokens(model, parts, progress=interrupted)
    whole = score_tokens(model, parts)
    assert not found.complete and whole.complete
    assert torch.equal(found.targets, torch.cat([text[:15], text[50:65]]))
    torch.testing.assert_close(found.log_probs[1.0][:15], whole.log_probs[1.0][:15])
    with pytest.raises(KeyboardInterrupt):
        score_tokens(model, parts, progress=lambda windows: interrupted([]))


def test_padding_is_left_out():
    model = make_model("gru")
    found = score_tokens(
        model, windows(protocol_for(model, batch_size=7), torch.randint(V, (30,))), [1.0, 2.0], [0.1], 5
    )
    assert len(found.targets) == len(found.cache_probs[0.1]) == len(Interpolation(2.0, 0.1, 0.3).nll(found)) == 30


def live_tensors():
    return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())


def test_a_pass_keeps_no_tensor_of_a_window():
    gc.collect()  # what earlier tests have left
    counts = []

    def counted(windows):
        for i, window in enumerate(windows):
            if i in (10, len(windows) - 1):
                counts.append(live_tensors())
            yield window

    model = make_model("lstm")
    parts = windows(protocol_for(model, batch_size=1, context=5), torch.randint(V, (300,)))
    score_tokens(model, parts, [1.0, 2.0], [0.1], cache_window=20, progress=counted)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("core_name", ["lstm", "transformer"])
def test_scoring_a_line_keeps_no_tensor_of_a_chunk(core_name):
    counts, vocabulary = [], Vocabulary([EOS, UNK, *(f"w{i}" for i in range(V - 2))])
    model = make_model(core_name)
    model.core.register_forward_hook(lambda *_: counts.append(live_tensors()))
    LanguageModel(model, vocabulary).score("w1 w2 " * 5 * CHUNK)
    assert len(counts) > 9
    assert counts[-2] <= counts[4]
