"""Incremental decoding: the same probabilities as in one pass, within the context that the core was trained for."""

import pytest
import torch

from lm.generation.incremental import CHUNK, IncrementalDecoder
from tests.conftest import V, make_model


@pytest.mark.parametrize("lengths", [(10,), (3, 4, 3), (1,) * 10])
def test_decodes_as_the_model_does_within_the_context(core_name, lengths):
    model = make_model(core_name, context=20)
    tokens = torch.randint(V, (10, 2))
    decoder = IncrementalDecoder(model, 2)
    parts = torch.cat([decoder.decode(part) for part in tokens.split(lengths)])
    torch.testing.assert_close(parts, model(tokens)[0], rtol=1e-5, atol=1e-6)


def test_a_recurrent_core_is_never_reset():
    model = make_model("lstm")
    tokens = torch.randint(V, (100, 1))
    decoder = IncrementalDecoder(model, 1)
    parts = torch.cat([decoder.decode(part) for part in tokens.split(7)])
    torch.testing.assert_close(parts, model(tokens)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("context", [1, 2, 5, 8])
def test_a_bounded_context_is_never_exceeded_and_half_of_it_is_always_kept(context):
    model = make_model("transformer", context=context)
    tokens = torch.randint(V, (30, 2))
    decoder = IncrementalDecoder(model, 2)
    for i in range(len(tokens)):
        log_probs = decoder.decode(tokens[i : i + 1])
        positions = decoder.state[0][0].size(2)
        assert min(i + 1, context // 2 + 1) <= positions <= context
        expected, _ = model(tokens[i + 1 - positions : i + 1])
        torch.testing.assert_close(log_probs[-1], expected[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("context", [1, 5, 6, 35])
def test_log_probs_do_not_depend_on_how_the_tokens_are_chunked(context):
    model = make_model("transformer", context=context)
    tokens = torch.randint(V, (80, 2))
    results = []
    for length in (1, 3, 18, 80):
        decoder = IncrementalDecoder(model, 2)
        results.append(torch.cat([decoder.decode(part) for part in tokens.split(length)]))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(results[0][:context], model(tokens[:context])[0], rtol=1e-5, atol=1e-6)


def test_a_long_text_at_once_stays_within_the_context():
    model = make_model("transformer", context=6)
    decoder = IncrementalDecoder(model, 1)
    assert decoder.decode(torch.randint(V, (50, 1))).shape == (50, 1, V)
    assert decoder.state[0][0].size(2) <= 6


@pytest.mark.parametrize("name", ["transformer", "transformer_xl", "modern_transformer"])
def test_a_long_prompt_is_read_in_chunks(name, monkeypatch):
    """Attention from all to all positions of a prompt of 20,000 words would take gigabytes."""
    model, lengths = make_model(name), []
    advance = IncrementalDecoder._advance
    monkeypatch.setattr(IncrementalDecoder, "_advance", lambda *args: lengths.append(len(args[1])) or advance(*args))
    prompt = torch.randint(V, (300,))
    decoder = IncrementalDecoder.prefill(model, prompt, 2)
    assert max(lengths) <= CHUNK and sum(lengths) >= 300
    step_by_step = IncrementalDecoder(model, 2)
    for part in prompt[:, None].expand(-1, 2).split(CHUNK):
        step_by_step.decode(part)
    word = torch.zeros(1, 2, dtype=torch.long)
    torch.testing.assert_close(decoder.decode(word), step_by_step.decode(word), rtol=1e-5, atol=1e-6)


def test_the_head_computes_nothing_but_the_words_asked_for(monkeypatch):
    model, positions = make_model("transformer", context=6), []
    log_prob = model.head.log_prob
    monkeypatch.setattr(model.head, "log_prob", lambda hidden: positions.append(len(hidden)) or log_prob(hidden))
    decoder = IncrementalDecoder.prefill(model, torch.randint(V, (20,)), 2)
    for _ in range(10):
        decoder.decode(torch.randint(V, (1, 2)))
    assert positions == [1] * 10


@pytest.mark.parametrize("length", [0, 1, 5, 300])
def test_texts_that_begin_alike_share_one_prefill(core_name, length):
    model = make_model(core_name, context=12)
    prompt, tokens = torch.randint(V, (length,)), torch.randint(V, (4, 3))
    together, each = IncrementalDecoder.prefill(model, prompt, 3), IncrementalDecoder(model, 3)
    whole = each.decode(torch.cat([prompt[:, None].expand(-1, 3), tokens]))
    torch.testing.assert_close(together.decode(tokens), whole[length:], rtol=1e-5, atol=1e-6)
