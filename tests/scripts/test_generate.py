"""scripts/generate.py end to end: what a user types, what a user gets."""

from itertools import pairwise

import pytest

from lm import LanguageModel
from scripts.generate import generate
from tests.conftest import composed, mistake, run


def test_generate_needs_no_corpus_and_prints_what_it_writes(trained, tmp_path):
    checkpoint = trained("lstm")
    arguments = (f"ckpt={checkpoint}", "prompt=w1 w2, it's", "max_words=30", "seed=3", f"out={tmp_path}/text.txt")
    done = run("generate", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "text.txt").read_text()
    assert done.stdout.startswith("w1 w2, it's")
    assert 'not in the vocabulary, read as <unk>: "w2," "it\'s" (tokenize=true' in done.stderr
    again = LanguageModel.load(checkpoint).generate("w1 w2, it's", max_words=30, seed=3)
    assert done.stdout == again[0] + "\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]


def test_generated_text_follows_what_the_corpus_taught(trained):
    for name in ("lstm", "transformer"):
        [text] = LanguageModel.load(trained(name)).generate(max_words=500, seed=0)
        words = [line.split() for line in text.splitlines()]
        numbers = [[int(word[1:]) for word in line if word != "<unk>"] for line in words]
        pairs = [pair for line in numbers for pair in pairwise(line)]
        successors = sum((a + 1) % 20 == b for a, b in pairs) / len(pairs)
        assert 0.1 < successors < 0.95, name  # 0.81 in the corpus, 0.05 by chance; 0.15 to 0.44 by seed of training


@pytest.mark.parametrize("options", [[], ["detokenize=true"]])
def test_several_samples_are_printed_one_after_the_other(trained, capsys, options):
    samples = generate(composed("generate", f"ckpt={trained('lstm')}", "num_samples=3", "max_words=5", *options))
    expected = "".join(f"--- {i} ---\n{sample}\n" for i, sample in enumerate(samples, 1))
    assert len(samples) == 3
    assert capsys.readouterr().out == expected


def test_a_text_ends_after_the_lines_and_sentences_that_were_asked_for(trained):
    for text in generate(
        composed("generate", f"ckpt={trained('lstm')}", "num_samples=4", "max_lines=2", "max_words=200")
    ):
        assert text.count("\n") == 2
        assert text.endswith("\n")


def test_beams_print_each_text_with_its_log_probability(trained, capsys):
    options = (
        f"ckpt={trained('transformer')}",
        "num_beams=4",
        "num_samples=2",
        "max_words=6",
        "prompt=w1 w2",
        "allow_unk=false",
    )
    capsys.readouterr()  # the training's
    texts = generate(composed("generate", *options))
    model = LanguageModel.load(trained("transformer"))
    printed = capsys.readouterr().out
    for number, text in enumerate(texts, start=1):
        *_, ended = scores = [*model.score_lines(text.split("\n"), context="document")]
        expected = sum(score.log_prob for score in scores) - ended.log_probs[-1] - model.log_prob("w1 w2", eos=False)
        head, _, printed = printed.partition("\n")
        assert head.split()[:3] == ["---", str(number), "---"]
        assert float(head.split()[3]) == pytest.approx(expected, abs=1e-3)
        assert text.startswith("w1 w2")
        assert printed.startswith(f"{text}\n")
        printed = printed.removeprefix(f"{text}\n")
    assert not printed


def test_a_prompt_file_is_read_line_by_line(trained, tmp_path, capsys):
    (tmp_path / "prompt.txt").write_text("w1 w2\nw3\n")
    [text] = generate(
        composed("generate", f"ckpt={trained('lstm')}", f"prompt_file={tmp_path}/prompt.txt", "max_words=3")
    )
    assert text.startswith("w1 w2\nw3")
    assert capsys.readouterr().out == text + "\n"
    assert [text] == LanguageModel.load(trained("lstm")).generate("w1 w2\nw3", max_words=3, seed=1111)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "ckpt"),
        (["ckpt=nowhere.ckpt"], "No checkpoint at ckpt=nowhere.ckpt"),
        (["ckpt=x", "max_words=many"], "max_words=many given, but it must be a whole number"),
        (
            ["ckpt=x", "num_beams=3", "temperature=0.5"],
            "temperature=0.5 with num_beams=3 given, but a beam search compares",
        ),
        (["ckpt=x", "num_beams=3", "num_samples=4"], "num_samples=4 given, but it must be at most num_beams=3"),
        (["ckpt=x", "length_penalty=1"], "length_penalty=1 given, but it is for beams"),
        (["ckpt=x", "num_beams=3", "max_words=0"], "max_words=0 given, but with num_beams it must be at least 1"),
        (["ckpt=LSTM", "num_beams=1000"], "num_beams=1000 given, but the vocabulary has 22 words"),
        (["ckpt=x", "max_sentences=0"], "max_sentences=0 given, but it must be a whole number, at least 1"),
        (["ckpt=x", "prompt_file=nowhere"], "Cannot read prompt_file=nowhere"),
        (["ckpt=x", "prompt_file=y", "prompt=z"], "prompt=z and prompt_file=y given"),
        (["ckpt=x", "out=FILE/x.txt"], "Cannot write"),
    ],
)
def test_every_mistake_is_one_line_that_names_what_was_given(arguments, message, trained, tmp_path):
    (tmp_path / "file").touch()
    for name, value in {"LSTM": str(trained("lstm")), "FILE": str(tmp_path / "file")}.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    assert message in mistake(generate, *arguments)
