"""Beam search against looking at every text there is."""

import contextlib
import itertools

import pytest
import torch

from lm.data import EOS, UNK, Vocabulary
from lm.generation import beam_search as module
from lm.generation.config import GenerationConfig
from tests.conftest import V, make_model

PROMPT = torch.tensor([0, 5])
VOCABULARY = Vocabulary([EOS, UNK, ".", "!", *(f"w{i}" for i in range(V - 4))])


def beam_search(model, max_words, num_beams, **options):
    options = {"num_samples": num_beams} | options
    config = GenerationConfig(max_words=max_words, num_beams=num_beams, **options)
    return module.beam_search(model, PROMPT, config, VOCABULARY)


def log_prob(model, text):
    log_probs, _ = model(torch.cat([PROMPT, text])[:-1, None])
    return log_probs[len(PROMPT) - 1 :, 0].gather(1, text[:, None]).sum().item()


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_a_beam_of_full_width_finds_the_most_probable_of_all_texts(name):
    model = make_model(name)
    torch.nn.init.normal_(model.head.decoder.bias, std=0.5)  # so that texts differ
    best = beam_search(model, 3, V * V)
    texts = torch.tensor(list(itertools.product(range(V), repeat=3)))
    log_probs, _ = model(torch.cat([PROMPT.expand(len(texts), -1), texts], 1)[:, :-1].T)
    sums = log_probs[1:].gather(2, texts.T[..., None]).sum((0, 2))
    values, places = sums.topk(4)
    assert [each.ids.tolist() for each in best[:4]] == texts[places].tolist()
    assert [each.log_prob for each in best[:4]] == pytest.approx(values.tolist(), abs=1e-4)


def test_each_texts_log_probability_is_that_of_the_chain_rule(core_name):
    model = make_model(core_name, context=32)
    found = beam_search(model, 8, 5)
    assert len(found) == 5
    assert [each.log_prob for each in found] == sorted((each.log_prob for each in found), reverse=True)
    for each in found:
        assert each.log_prob == pytest.approx(log_prob(model, each.ids), abs=1e-4)


def test_a_beam_of_one_takes_the_most_probable_word_each_time(core_name):
    model = make_model(core_name, context=32)
    [found] = beam_search(model, 10, 1)
    text = PROMPT
    for word in found.ids:
        log_probs, _ = model(text[:, None])
        assert word == log_probs[-1, 0].argmax()
        text = torch.cat([text, word[None]])


def test_texts_that_end_compete_by_their_normalised_log_probability():
    model = make_model("gru")
    torch.nn.init.normal_(model.head.decoder.bias)
    model.head.decoder.bias.data[[2, 3]] += 2
    every = []
    for length in (1, 2, 3):
        for text in itertools.product(range(V), repeat=length):
            early = set(text[:-1]) & {2, 3}
            if not early and (text[-1] in (2, 3) or length == 3):
                every.append(torch.tensor(text))
    longest = torch.stack([torch.cat([text, torch.zeros(3 - len(text), dtype=torch.long)]) for text in every])
    log_probs, _ = model(torch.cat([PROMPT.expand(len(every), -1), longest], 1)[:, :-1].T)
    words = log_probs[1:].gather(2, longest.T[..., None]).squeeze(2)
    sums = [words[: len(text), i].sum().item() for i, text in enumerate(every)]
    for length_penalty in (0.0, 0.6, 1.0, 2.0):
        found = beam_search(model, 3, V * V * 2, length_penalty=length_penalty, max_sentences=1)
        merits = [
            log_prob / ((5 + len(text)) / 6) ** length_penalty for log_prob, text in zip(sums, every, strict=True)
        ]
        best = max(range(len(every)), key=merits.__getitem__)
        assert found[0].ids.tolist() == every[best].tolist()
        got = [each.log_prob / ((5 + len(each.ids)) / 6) ** length_penalty for each in found[:10]]
        assert got == pytest.approx(sorted(merits, reverse=True)[:10], abs=1e-4)


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0])
def test_stopping_early_loses_no_better_text(length_penalty, monkeypatch):
    model, steps = make_model("lstm"), []
    model.head.decoder.bias.data[0] += 1.5
    model.core.register_forward_pre_hook(lambda *_: steps.append(1))
    options = {"max_lines": 1, "length_penalty": length_penalty}
    early, stopped_after = beam_search(model, 60, 4, **options), len(steps)
    monkeypatch.setattr(module, "_cannot_improve", lambda *_: False)
    whole = beam_search(model, 60, 4, **options)
    assert [each.ids.tolist() for each in early] == [each.ids.tolist() for each in whole]
    assert stopped_after < len(steps) - stopped_after


def test_nothing_that_is_ruled_out_is_in_any_text():
    model = make_model("transformer")
    model.head.decoder.bias.data[VOCABULARY.unk_id] += 2
    for each in beam_search(model, 20, 4, allow_unk=False, no_repeat_ngram_size=2):
        text = [*PROMPT.tolist()[1:], *each.ids.tolist()]
        assert VOCABULARY.unk_id not in text
        assert len(set(itertools.pairwise(text))) == len(text) - 1


@pytest.mark.parametrize("steps", [0, 4])
def test_an_interrupted_search_gives_the_best_texts_so_far(steps):
    model, calls = make_model("lstm"), itertools.count()

    def interrupt(*_):
        if next(calls) == steps + 1:  # after the prompt's step
            raise KeyboardInterrupt

    expected = beam_search(model, steps, 3) if steps else [module.Hypothesis(PROMPT[:0], 0.0, 0.0)]
    model.core.register_forward_pre_hook(interrupt)
    config = GenerationConfig(max_words=50, num_beams=3, num_samples=3)
    found = module.beam_search(model, PROMPT, config, VOCABULARY, contextlib.suppress(KeyboardInterrupt))
    assert [each.ids.tolist() for each in found] == [each.ids.tolist() for each in expected]
    assert [each.log_prob for each in found] == [each.log_prob for each in expected]


def test_a_text_that_no_word_may_follow_is_finished_as_it_is():
    found = beam_search(make_model("lstm"), 2 * V, 3, no_repeat_ngram_size=1)
    assert len(found) == 3
    for each in found:
        assert sorted(each.ids.tolist()) == [word for word in range(V) if word != 5]
