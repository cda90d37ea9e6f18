"""A pass over a text: each word's loss is what the model says of it, one by one."""

import pytest
import torch
from torch.nn import functional as F

from lm.evaluation.protocol import Protocol
from lm.evaluation.scoring import Mixture, measure
from tests.conftest import V, make_model


def word_by_word(model, text, layout):
    """The log-probabilities `[V]` behind each word of a single column, as plainly as can be."""
    rows, state = [], None
    for i in range(len(text)):
        before = torch.cat([torch.zeros(1, dtype=torch.long), text[:i]])
        if model.core.context is None:
            log_probs, state = model(before[-1:, None], state)
        else:
            start = 0 if i < layout.context else (i - layout.context) // layout.stride * layout.stride + layout.stride
            log_probs, _ = model(before[start:, None])
        rows.append(log_probs[-1, 0])
    return torch.stack(rows)


def fitted(model, **options):
    return Protocol(**options).fitted(model.core)


def windows(layout, text):
    return layout.windows(layout.lay_out(text, eos_id=0))


@torch.no_grad()
def test_losses_are_those_of_reading_word_by_word(core_name):
    model = make_model(core_name, context=6)
    text = torch.randint(V, (40,))
    layout = fitted(model, columns=1)
    found = measure(model, windows(layout, text), [1.0, 0.7])
    rows = word_by_word(model, text, layout)
    for temperature in (1.0, 0.7):
        expected = F.log_softmax(rows / temperature, -1).gather(1, text[:, None]).squeeze(1)
        torch.testing.assert_close(found.log_probs[temperature], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.targets, text)


def test_words_come_in_the_order_of_the_text_whatever_the_columns():
    model = make_model("lstm")
    text = torch.randint(V, (103,))
    for columns in (1, 4, 10):
        layout = fitted(model, columns=columns, context=7)
        assert torch.equal(measure(model, windows(layout, text)).targets, text)


def test_positions_count_the_words_before_in_the_window():
    model = make_model("transformer", context=6)
    found = measure(model, windows(fitted(model, columns=1, stride=2), torch.randint(V, (12,))))
    assert found.positions.tolist() == [1, 2, 3, 4, 5, 6, 5, 6, 5, 6, 5, 6]


def test_longer_contexts_come_with_smaller_strides():
    model = make_model("transformer", context=8)
    text = torch.randint(V, (30,))
    losses = [
        measure(model, windows(fitted(model, columns=1, stride=stride), text)).log_probs[1.0] for stride in (8, 1)
    ]
    assert torch.allclose(losses[0][:8], losses[1][:8])
    assert not torch.allclose(losses[0][8:15], losses[1][8:15])


def test_ctrl_c_keeps_what_has_been_read():
    def interrupted(windows):
        yield from windows[:3]
        raise KeyboardInterrupt

    model = make_model("lstm")
    text = torch.randint(V, (100,))
    parts = windows(fitted(model, columns=2, context=5), text)
    found = measure(model, interrupted(parts))
    whole = measure(model, parts)
    assert not found.complete and whole.complete
    assert torch.equal(found.targets, torch.cat([text[:15], text[50:65]]))
    torch.testing.assert_close(found.log_probs[1.0][:15], whole.log_probs[1.0][:15])
    with pytest.raises(KeyboardInterrupt):
        measure(model, interrupted([]))


def test_padding_is_left_out():
    model = make_model("gru")
    found = measure(model, windows(fitted(model, columns=7), torch.randint(V, (30,))), [1.0, 2.0], [0.1], 5)
    assert len(found.targets) == len(found.cached[0.1]) == len(Mixture(2.0, 0.1, 0.3).nats(found)) == 30
