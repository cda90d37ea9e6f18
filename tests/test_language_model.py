"""Probabilities of text: the chain rule, unknown words, and distributions that are whole."""

import itertools
import math
import warnings

import pytest
import torch

from lm import LanguageModel, language_model
from lm.data import EOS, UNK, Vocabulary
from lm.data.vocabulary import describe_unknown
from lm.errors import UserError
from lm.generation.config import GenerationConfig
from lm.language_model import pieces, words_of
from tests.conftest import CORES, make_model


@pytest.fixture
def model(core_name, vocabulary):
    return LanguageModel(make_model(core_name), vocabulary)


def test_log_prob_is_the_chain_rule_over_prefixes(model):
    words = ["w3", "w1", "w4", EOS]
    ids = model.vocabulary.encode([EOS, *words])
    expected = 0.0
    for i in range(1, len(ids)):
        log_probs, _ = model.model(ids[:i, None])
        expected += log_probs[-1, 0, ids[i]].item()
    assert model.log_prob("w3 w1 w4") == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_probabilities_of_all_texts_of_two_words_sum_to_one(name, vocabulary):
    model = LanguageModel(make_model(name), vocabulary)
    total = sum(
        math.exp(model.log_prob(f"{a} {b}", eos=False)) for a, b in itertools.product(model.vocabulary.words, repeat=2)
    )
    assert total == pytest.approx(1, abs=1e-3)


def test_scoring_in_chunks_changes_nothing(model, monkeypatch):
    line = " ".join(f"w{i % 7}" for i in range(14))
    whole = model.score(line)
    monkeypatch.setattr(language_model, "CHUNK", 4)
    parts = model.score(line)
    assert parts.words == whole.words
    assert parts.log_probs == pytest.approx(whole.log_probs, abs=1e-5)
    assert model.log_probs(line).shape == (15, len(model.vocabulary))


@pytest.fixture
def lstm(vocabulary):
    return LanguageModel(make_model("lstm"), vocabulary)


def test_score_names_the_most_probable_words_in_order(lstm):
    score = lstm.score("w1 w2", top=3)
    rows = lstm.log_probs("w1 w2")
    for row, top in zip(rows, score.top_log_probs, strict=True):
        values, ids = row.topk(3)
        assert [word for word, _ in top] == lstm.vocabulary.decode(ids)
        assert [value for _, value in top] == pytest.approx(values.tolist())
    targets = lstm.vocabulary.encode(score.words).tolist()
    assert score.ranks == [
        row.argsort(descending=True).tolist().index(i) + 1 for row, i in zip(rows, targets, strict=True)
    ]
    assert rows.gather(1, lstm.vocabulary.encode(score.words)[:, None]).sum().item() == pytest.approx(score.log_prob)


def test_unknown_words_are_scored_as_unk_and_marked(lstm):
    score = lstm.score("w1 zebra", eos=False)
    assert score.known == [True, False]
    assert score.log_probs == pytest.approx(lstm.score(f"w1 {UNK}", eos=False).log_probs)
    assert lstm.unknown("w1 zebra w2 zoo") == ["zebra", "zoo"]
    assert score.unknown == ["zebra"]


@pytest.mark.parametrize("method", ["log_prob", "perplexity", "next_words", "generate"])
def test_unknown_words_are_warned_of_where_the_result_does_not_show_them(lstm, method):
    with pytest.warns(UserWarning, match='not in the vocabulary, read as <unk>: "zebra" "zoo"$') as warned:
        getattr(lstm, method)("w1 zebra w2 zoo zebra")
    assert [warning.filename for warning in warned] == [__file__]
    with warnings.catch_warnings(action="error"):
        getattr(lstm, method)("w1 w2")


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.similar_words("w1", k=-3),
        lambda model: model.next_words("w1", k=0),
        lambda model: model.score("w1", top=-1),
        lambda model: list(model.score_lines(["w1"], top=-1, context="document")),
    ],
)
def test_counts_below_the_least_are_user_errors(lstm, call):
    with pytest.raises(UserError, match="given, but it must be at least"):
        call(lstm)


def test_the_end_of_a_line_counts_as_a_character_if_it_is_scored(lstm):
    assert lstm.score("w1  w2").characters == 6
    assert lstm.score("w1  w2", eos=False).characters == 5


def test_many_unknown_words_are_counted():
    assert describe_unknown([f"x{i}" for i in range(1100)]).endswith('"x19" and 1,080 others')


def test_lines_of_a_text_are_scored_each_by_itself(lstm):
    assert lstm.log_prob("w1 w2\nw3") == pytest.approx(lstm.log_prob("w1 w2") + lstm.log_prob("w3"))


def test_an_empty_line_is_only_its_end(lstm):
    assert lstm.score("").words == [EOS]
    assert lstm.score("", eos=False).words == []
    assert math.isnan(lstm.score("", eos=False).perplexity)
    assert lstm.log_probs("", eos=False).shape == (0, len(lstm.vocabulary))


def test_perplexity_is_per_word(lstm):
    score = lstm.score("w1 w2")
    assert score.perplexity == pytest.approx(math.exp(-sum(score.log_probs) / 3))


@pytest.mark.filterwarnings("ignore:not in the vocabulary")
def test_generate_gives_texts_that_begin_with_the_prompt(lstm):
    texts = lstm.generate("w1 zebra", max_words=6, num_samples=3, seed=0)
    assert len(texts) == 3
    assert all(text.startswith("w1 zebra") for text in texts)
    assert lstm.generate("w1", max_words=0) == ["w1"]


def test_options_take_precedence_over_a_config(lstm):
    config = GenerationConfig(max_words=4, num_samples=2, seed=7)
    assert lstm.generate("w1", config) == lstm.generate("w1", max_words=4, num_samples=2, seed=7)
    assert lstm.generate("w1", config, max_words=9, num_samples=1) == lstm.generate("w1", max_words=9, seed=7)
    assert list(lstm.stream("w1", config, seed=8)) == list(lstm.stream("w1", max_words=4, num_samples=2, seed=8))
    config = GenerationConfig(max_words=4, num_beams=3)
    assert lstm.beam_search("w1", config, num_samples=3) == lstm.beam_search(
        "w1", max_words=4, num_beams=3, num_samples=3
    )
    with pytest.raises(UserError, match="num_beams=3 given, but a beam search does not yield word by word"):
        next(lstm.stream("w1", config))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_text_is_finished_with_the_sentence_that_was_asked_for(num_beams):
    vocabulary = Vocabulary([EOS, UNK, ".", "?", *(f"w{i}" for i in range(26))])
    lstm = LanguageModel(make_model("lstm"), vocabulary)
    lstm.model.head.decoder.bias.data[2] += 2
    [text] = lstm.generate("w1 .", max_words=200, max_sentences=2, allow_unk=False, num_beams=num_beams)
    assert sum(text.count(end) for end in ".?") == 3  # one of them the prompt's
    assert text[-1] in ".?"
    assert UNK not in text


def test_sentences_without_anything_that_ends_one_are_refused(lstm):
    with pytest.raises(UserError, match="the vocabulary has none of"):
        lstm.generate(max_sentences=1)


def test_the_next_words_are_those_that_a_score_finds_most_probable(model):
    [*_, expected] = model.score("w1 w2", top=5).top_log_probs
    found = model.next_words("w1 w2", k=5)
    assert [word for word, _ in found] == [word for word, _ in expected]
    assert [math.log(probability) for _, probability in found] == pytest.approx(
        [each for _, each in expected], abs=1e-5
    )
    assert sum(probability for _, probability in model.next_words(k=1000)) == pytest.approx(1)


def test_similar_words_have_the_highest_cosines_without_the_word_itself(lstm):
    vectors = lstm.model.embedding.weight.data
    w3, w5, w7 = map(lstm.vocabulary.id_of, ["w3", "w5", "w7"])
    vectors[w5], vectors[w7] = -vectors[w3], 3 * vectors[w3]
    found = lstm.similar_words("w3", k=1000)
    assert found[0] == ("w7", pytest.approx(1))
    assert found[-1] == ("w5", pytest.approx(-1))
    assert len(found) == len(lstm.vocabulary) - 1
    assert lstm.similar_words("w3", k=2) == found[:2]
    with pytest.raises(UserError, match="word=zebra given, but it is not in the vocabulary"):
        lstm.similar_words("zebra")


def test_perplexity_of_a_text_counts_all_words_of_its_lines(lstm):
    lines = [lstm.score("w1 w2"), lstm.score("w3")]
    expected = math.exp(-sum(line.log_prob for line in lines) / 5)
    assert lstm.perplexity("w1 w2\n\nw3\n") == pytest.approx(expected)
    assert math.isnan(lstm.perplexity("\n"))


def test_it_says_what_it_is_and_where(lstm):
    parameters = sum(each.numel() for each in lstm.model.parameters())
    assert repr(lstm) == f"LanguageModel(RecurrentCore, 30 words, {parameters:,} parameters, cpu)"
    assert lstm.to("meta") is lstm
    assert lstm.device == torch.device("meta")


def test_an_unknown_option_is_named_with_the_one_that_was_meant(lstm):
    for method in (lstm.generate, lstm.beam_search, lambda text, **options: next(lstm.stream(text, **options))):
        with pytest.raises(UserError, match=r"max_word is unknown: GenerationConfig takes .*did you mean max_words\?"):
            method("w1", max_word=3)
        with pytest.raises(UserError, match="top_k=many given, but it must be of type int"):
            method("w1", top_k="many")


@pytest.mark.parametrize("ending", ["html", "png"])
def test_a_plot_is_shown_by_notebooks_and_saved(lstm, ending, tmp_path):
    plot = lstm.plot("w1 zebra\nw2")
    assert [score.words for score in plot.scores] == [["w1", "zebra", EOS], ["w2", EOS]]
    assert "zebra" in plot._repr_html_()
    assert plot.save(tmp_path / f"plot.{ending}").stat().st_size > 1000


def test_text_breaks_lines_at_eos():
    assert "".join(pieces(["a", "b", EOS, "c", EOS, EOS, "d"])) == "a b\nc\n\nd"


def test_a_vocabulary_gives_back_what_it_was_given():
    vocabulary = Vocabulary([UNK, "a", EOS])
    assert vocabulary.decode(vocabulary.encode(["a", EOS, "b"])) == ["a", EOS, UNK]
    assert torch.equal(vocabulary.encode([]), torch.empty(0, dtype=torch.long))


def test_a_prompt_has_the_words_of_a_file_with_its_text():
    assert words_of("\ufeffa\u2028b\r\nc <eos>\r\n\r") == ["a", "b", EOS, "c", EOS, EOS]
    assert words_of("a <eos>") == ["a", EOS]


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize(
    ("before", "after"), [("w1 w2 w3", "w1 w2 w4 w5"), ("w1", "w1 w2"), ("w1 w2", "w1"), ("w3", "w1 w3")]
)
def test_a_line_that_begins_like_an_earlier_one_gets_the_scores_of_a_whole_pass(vocabulary, name, before, after):
    model = LanguageModel(make_model(name), vocabulary)
    whole = model.score(after, top=2)
    grown = model.score(after, top=2, earlier=model.score(before, top=2))
    assert grown.words == whole.words
    assert grown.known == whole.known
    assert grown.ranks == whole.ranks
    assert grown.log_probs == pytest.approx(whole.log_probs, abs=1e-4)
    assert [[word for word, _ in each] for each in grown.top_log_probs] == [
        [word for word, _ in each] for each in whole.top_log_probs
    ]


@pytest.mark.parametrize("name", ["lstm", "transformer_xl"])
def test_words_of_a_document_have_one_score_whether_ends_of_lines_are_scored_or_not(name, vocabulary):
    model = LanguageModel(make_model(name), vocabulary)
    lines = ["w1 w2", "", "w3 w4 w5"]
    whole = [score.log_probs for score in model.score_lines(lines, context="document")]
    words = [score.log_probs for score in model.score_lines(lines, eos=False, context="document")]
    assert words == [log_probs[:-1] for log_probs in whole]
