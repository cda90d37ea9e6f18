"""scripts/score.py end to end: what a user types, what a user gets."""

import io
import json
import math
import re
import subprocess
import sys

import pytest

from lm import LanguageModel
from scripts.evaluate import evaluate
from scripts.score import MOST_WORDS, score
from tests.conftest import ROOT, composed, mistake


@pytest.fixture(scope="module", autouse=True)
def checkpoints(trained):
    """Train before a test captures what is printed."""
    trained("lstm"), trained("transformer")


def test_score_prints_every_word_the_sum_and_a_figure(trained, tmp_path, capsys):
    checkpoint = trained("lstm")
    plot = tmp_path / "text.png"
    score(composed("score", f"ckpt={checkpoint}", "text='w1 w2 zebra'", "top=2", f"plot={plot}"))
    printed = capsys.readouterr().out
    expected = LanguageModel.load(checkpoint).score("w1 w2 zebra")
    lines = printed.splitlines()
    for line, word, log_prob in zip(lines, expected.words, expected.log_probs, strict=False):
        assert line.split()[0] == word
        assert float(line.split()[1]) == pytest.approx(log_prob, abs=1e-4)
        assert f"{math.exp(log_prob):.1%}  rank " in line or "<0.1%  rank " in line
    assert "(unknown: scored as <unk>)" in lines[2]
    assert f"{expected.log_prob:.4f} nats, 4 tokens, perplexity {expected.perplexity:,.2f}" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_json_is_an_object_for_each_line_and_nothing_else(trained, capsys):
    model = LanguageModel.load(trained("lstm"))
    score(composed("score", f"ckpt={trained('lstm')}", "text='w1 zebra\n\nw3'", "format=json", "top=2", "eos=false"))
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row, line in zip(rows, ("w1 zebra", "w3"), strict=True):
        expected = model.score(line, top=2, eos=False)
        assert row["words"] == line.split()
        assert row["known"] == expected.known
        assert row["log_probs"] == expected.log_probs
        assert row["ranks"] == expected.ranks
        assert row["log_prob"] == expected.log_prob
        assert row["perplexity"] == expected.perplexity
        assert row["top_log_probs"] == [[list(pair) for pair in each] for each in expected.top_log_probs]


def test_the_table_lists_the_top_words_with_their_log_probabilities(trained, capsys):
    [scored] = score(composed("score", f"ckpt={trained('lstm')}", "text=w1 zebra", "top=2"))
    listed = [line.partition("   top: ")[2].split() for line in capsys.readouterr().out.splitlines()]
    expected = [[each for word, value in top for each in (word, f"{value:.2f}")] for top in scored.top_log_probs]
    assert listed[: len(expected)] == expected


def test_score_reads_files_the_standard_input_and_typed_text_alike(trained, tmp_path, monkeypatch, capsys):
    checkpoint = trained("lstm")
    # a line ends with \n, \r or \r\n and nothing else, and with one <eos>, as in a corpus
    data = "\ufeffw1\u2028w2\x85\r\n\r\nw3\rw4 <eos>\n".encode()
    (tmp_path / "text.txt").write_bytes(data)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig"))
    config = composed("score", f"ckpt={checkpoint}")
    score(composed("score", f"ckpt={checkpoint}", f"file={tmp_path}/text.txt"))
    from_file = capsys.readouterr().out
    score(config)
    assert capsys.readouterr().out == from_file
    config.text = data.decode()
    score(config)
    assert capsys.readouterr().out == from_file
    total = LanguageModel.load(checkpoint).log_prob("w1 w2\nw3\nw4")
    assert f"text: log-probability {total:.4f} nats, 7 tokens" in from_file


def test_what_is_no_text_on_the_standard_input_is_one_line(trained, monkeypatch):
    for data, message in (("a b".encode("utf-16"), "is not UTF-8 text but UTF-16"), (b"a\0", "holds NUL bytes")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig"))
        assert f"The standard input {message}" in mistake(score, f"ckpt={trained('lstm')}")


def test_a_line_is_printed_before_the_next_one_is_read(trained, monkeypatch, capsys):
    def typed():
        yield "w1 w2\n"
        assert "perplexity" in capsys.readouterr().out
        yield "w3\n"

    monkeypatch.setattr("sys.stdin", typed())
    assert len(score(composed("score", f"ckpt={trained('lstm')}"))) == 2


def test_a_reader_that_ends_early_gets_no_traceback(trained):
    command = f"{sys.executable} {ROOT}/scripts/score.py ckpt={trained('lstm')} format=json | head -c 10"
    done = subprocess.run(["bash", "-c", command], input="w1 w2\n" * 2000, capture_output=True, text=True)
    assert done.stdout == '{"words": '
    assert done.stderr.splitlines() == [f"loading {trained('lstm')}"]


def test_ctrl_c_ends_a_text_that_does_not_end(trained, monkeypatch, capsys):
    def typed():
        yield "w1 w2\n"
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", typed())
    with pytest.raises(KeyboardInterrupt, match="this is the text so far"):
        score(composed("score", f"ckpt={trained('lstm')}"))
    assert "nats, 3 tokens" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_a_document_has_the_perplexity_of_an_evaluation_in_one_stream(trained, text_folder, model, tmp_path, capsys):
    (tmp_path / "test.txt").write_text("\n w1 w2\n\n" + (text_folder / "test.txt").read_text() + "\n")
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text("w1 w2\n")
    ckpt = f"ckpt={trained(model)}"
    scores = score(composed("score", ckpt, f"file={tmp_path}/test.txt", "context=document", "format=summary"))
    words, context = sum(len(each.words) for each in scores), LanguageModel.load(trained(model)).model.core.context
    options = [f"data.root={tmp_path}", "data=text", f"data.cache_dir={tmp_path}", "evaluation.batch_size=1"]
    if context:  # the decoder moves its window by half
        options += [f"evaluation.context={context}", f"evaluation.stride={context // 2}"]
    [expected] = evaluate(composed("evaluate", ckpt, *options, "fabric.precision=32-true", f"out={tmp_path}/out.json"))
    assert words == expected["tokens"]
    mean = -sum(each.log_prob for each in scores) / words
    assert mean == pytest.approx(expected["loss"], abs=1e-4 if context is None else 0.05)
    assert f"perplexity {math.exp(mean):,.2f}, " in capsys.readouterr().out


def test_bits_per_character_count_every_space_and_line_end(trained, capsys):
    [first, second] = score(composed("score", f"ckpt={trained('lstm')}", "text='w1 w22\nw3'", "format=summary"))
    bits = -(first.log_prob + second.log_prob) / math.log(2) / len("w1 w22\nw3\n")
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert f"{bits:.3f} bits per character" in printed


def test_the_most_surprising_words_are_listed_with_those_before_them(trained, capsys):
    scores = score(composed("score", f"ckpt={trained('lstm')}", "text='w1 w2 w9\n\nw3 w4'", "format=summary", "most=2"))
    words = [
        (-log_prob, f"line {number}: {' '.join([*each.words[:i], f'>{each.words[i]}<'])}")
        for number, each in zip((1, 3), scores, strict=True)  # a blank line counts
        for i, log_prob in enumerate(each.log_probs)
    ]
    [_, *listed] = capsys.readouterr().out.splitlines()
    assert listed == [f"{nats:6.2f} nats  {place}" for nats, place in sorted(words, reverse=True)[:2]]


def test_ctrl_c_before_the_first_line_is_no_mistake(trained, monkeypatch):
    def typed():
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("sys.stdin", typed())
    with pytest.raises(KeyboardInterrupt, match="this is the text so far"):
        score(composed("score", f"ckpt={trained('lstm')}"))


def test_a_text_of_unknown_words_is_scored_and_said_to_mean_nothing(trained, capsys):
    score(composed("score", f"ckpt={trained('lstm')}", "text=aardvark zebra"))
    printed = capsys.readouterr()
    assert "perplexity" in printed.out
    assert "The model knows none of these words" in printed.err


def test_control_characters_are_written_out(trained, capsys):
    score(composed("score", f"ckpt={trained('lstm')}", "text='w1 \x1b[2J'"))
    printed = capsys.readouterr()
    assert "\\x1b[2J" in printed.out and "\\x1b[2J" in printed.err
    assert "\x1b" not in printed.out + printed.err


def test_a_shaded_text_names_the_most_probable_words_unasked(trained, tmp_path):
    model = LanguageModel.load(trained("lstm"))
    score(composed("score", f"ckpt={trained('lstm')}", "text=w1 w2", f"plot={tmp_path}/x.html"))
    expected = [word for each in model.score("w1 w2", top=10).top_log_probs for word, _ in each]
    [data] = re.findall(r"^const scores = (.*);$", (tmp_path / "x.html").read_text(), re.MULTILINE)
    assert [word for each in json.loads(data)[0]["top_log_probs"] for word, _ in each] == expected


@pytest.mark.parametrize(("model", "view"), [("lstm", "heat_map"), ("lstm", "text"), ("transformer", "attention")])
def test_every_view_is_drawn(trained, tmp_path, model, view):
    score(composed("score", f"ckpt={trained(model)}", "text=w1 w2", f"view={view}", f"plot={tmp_path}/x.svg"))
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ckpt=x", "text=a", "plot=x.doc"], "its ending must be one of .png"),
        (["ckpt=x", "text=a", "plot=FILE/x.png"], "Cannot write"),
        (["ckpt=x", "text=a", "top=many"], "top=many given, but it must be a whole number"),
        (["ckpt=x", "text=a", "view=map"], "view=map given, but it must be one of text, heat_map, attention"),
        (["ckpt=x", "text=a", "format=xml"], "format=xml given, but it must be one of table, json, summary"),
        (["ckpt=x", "text=a", "file=b"], "text=... and file=b given: give one of them"),
        (["ckpt=x", "text=a", "plot=x.png", "view=heat_map", "context=document"], "it shows each line by itself"),
        (["ckpt=x", "text=a", "context=page"], "context=page given, but it must be one of line, document"),
        (["ckpt=LSTM", "text="], "There is nothing to score"),
        (["ckpt=LSTM", "file=FILE"], "There is nothing to score"),
        (["ckpt=LSTM", "file=nowhere"], "Cannot read file=nowhere"),
        (["ckpt=x", "text=LONG", "plot=x.png"], f"shows at most 100 lines and {MOST_WORDS} words"),
        (["ckpt=x", "text='a\nb'", "plot=x.png", "view=attention"], "shows at most 1 lines"),
        (["ckpt=LSTM", "text=a", "plot=x.png", "view=attention"], "only a Transformer has any"),
        (["ckpt=TRANSFORMER", "text=a a a a a a a a a", "plot=x.png", "view=attention"], "looks over 8"),
    ],
)
def test_every_mistake_is_one_line_before_any_score(arguments, message, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    names = {"FILE": str(tmp_path / "file"), "LONG": "w1 " * 10_000}
    names |= {name.upper(): str(trained(name)) for name in ("lstm", "transformer")}
    for name, value in names.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    assert message in mistake(score, *arguments)
    assert not list(tmp_path.glob("x.*"))
    assert not capsys.readouterr().out
