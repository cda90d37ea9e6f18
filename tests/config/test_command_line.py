"""What is typed arrives: any text, any path, any alphabet."""

import io
import os
import sys
from unittest.mock import patch

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lm.config.command_line import hydra_arguments, prepare_command_line, use_utf8_streams
from lm.errors import UserError
from tests.conftest import run, small

TYPED = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("\"'\\${}[]()=,:~#! \n"), max_size=9
)
PATH_KEYS = ["ckpt", "out", "plot", "file", "prompt_file", "run_dir", "data.root", "data.cache_dir", "hydra.run.dir"]
PATH_KEYS += ["hydra.sweep.dir", "model.embedding.pretrained", "callbacks.checkpoint.dirpath", "+logger.csv.save_dir"]
PATH_KEYS += ["callbacks.resumable_checkpoint.path", "callbacks.checkpoint.filename", "+trainer.default_root_dir"]


def values(arguments, texts=()):
    """What the last of the arguments comes to in the composed config: a list where a multirun goes through several."""
    *_, argument = hydra_arguments(arguments, texts)
    override = OverridesParser.create().parse_override(argument)
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    if "-m" in arguments:  # the sweeper writes it again, for the job
        [[job]] = BasicSweeper.split_arguments([override], None)
        [override] = OverridesParser.create().parse_overrides(job)
    config = OmegaConf.create({"key": override.value(), "there": "here"})
    assert OmegaConf.to_container(config, resolve=True)["key"] == config.key
    return config.key


@settings(max_examples=40)
@given(TYPED)
@example("${now:%Y}")
@example("\\${oc.env:HOME}")
@example("???")
@example("null")
@example("1e3")
@example('" a list "')
def test_any_text_arrives_as_it_was_typed(text):
    for arguments in ([f"text={text}"], ["-m", f"text={text}"], [f"+text={text}"], ["-m", f"++text={text}"]):
        assert values(arguments, ["text"]) == text


@settings(max_examples=40)
@given(TYPED)
@example("${now:%Y}")
@example("a\\${b}")
@example('a\\"b')
@example("a,b")
def test_the_path_of_what_exists_arrives_as_it_was_typed(path):
    assume(path not in ("", "null", "???") and not path.startswith("~"))
    with patch("os.path.lexists", return_value=True):
        assert values([f"ckpt={path}"]) == values(["-m", f"ckpt={path}"]) == path


@settings(max_examples=40)
@given(TYPED)
@example("a, b = (c)")
@example("1e3")
@example("true")
def test_a_new_path_arrives_as_it_was_typed(path):
    assume(path not in ("", "null", "???") and not path.startswith(("~", "'", '"')) and "${" not in path)
    assert values([f"out={path}"]) == path


@pytest.mark.parametrize("key", PATH_KEYS)
def test_every_key_that_takes_a_path_takes_any_name(key, tmp_path):
    path = f"{tmp_path}/a=b, (c) #é中 'q' \"d\" [x]{{y}}:%&;~! $HOME "
    assert values([f"{key}={path}"]) == path


def test_paths_and_values_in_hydras_own_grammar_are_left_alone():
    arguments = [
        "--cfg",
        "job",
        "max_words=5",
        'ckpt="a, b"',
        "plot='c'",
        "~callbacks.x=1",
        "out=null",
        "out=",
        "model=lstm",
    ]
    assert hydra_arguments(arguments, ["prompt"]) == arguments
    assert values(["out=${there}/x, y"]) == "here/x, y"


def test_overrides_may_stand_before_and_after_flags():
    typed = ["a=1", "--config-dir", "b=2", "~c", "-m", "+d=3", "--cfg", "job"]
    assert hydra_arguments(typed) == ["--config-dir", "b=2", "-m", "--cfg", "job", "a=1", "~c", "+d=3"]


def test_a_comma_separates_the_paths_of_a_multirun_unless_the_name_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b").touch()
    assert values(["-m", "ckpt=a,b"]) == "a,b"
    assert values(["-m", "ckpt=a=1,b"]) == ['"a=1"', '"b"']
    assert values(["-m", "ckpt=choice(c,d)"]) == ["c", "d"]
    assert values(["--multirun", "hydra.sweep.dir=c,d"]) == values(["ckpt=c,d"]) == "c,d"


def test_a_tilde_is_the_home_folder_only_where_it_begins_a_path_that_names_a_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert values(["hydra.run.dir=~/runs"]) == f"{tmp_path}/runs"
    assert values(["out=~nobody-of-this-name"]) == f"{tmp_path}/~nobody-of-this-name"
    assert values(["out=a/~/b~"]) == "a/~/b~"
    assert values(["prompt=~"], ["prompt"]) == "~"


@pytest.mark.parametrize("folder", ["a,b", 'a "b" \\', 'a\\"'])
def test_the_run_folder_that_lightning_hands_its_processes_is_the_same(folder):
    child = [f'hydra.run.dir="{folder}"', "hydra.job.name=train_ddp_process_1", "hydra.output_subdir=null"]
    own, lightnings, *_ = hydra_arguments([*hydra_arguments([f"hydra.run.dir={folder}"]), *child])
    assert own == lightnings
    assert OverridesParser.create().parse_override(own).value() == folder


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model.embedding.embedding_size=${model.core.hiden_size}", r"^Interpolation key '.*hiden_size' not found$"),
        ("model.core=null", r"^.* node `model.core` is not a container .*$"),
    ],
)
def test_a_reference_to_no_key_is_one_line(argument, message, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", argument])
    monkeypatch.setattr("lm.config.command_line.use_utf8_streams", lambda: None)
    with pytest.raises(SystemExit, match=message):
        prepare_command_line("train")


def test_an_argument_that_is_not_utf8_is_one_line():
    with pytest.raises(UserError, match=r"^text=\\xff given, but it is not UTF-8"):
        hydra_arguments([os.fsdecode(b"text=\xff")], ["text"])


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


def test_streams_are_utf8_and_a_terminal_shows_a_replacement(monkeypatch):
    for name, stream in (
        ("stdin", io.TextIOWrapper(io.BytesIO("\ufeffcafé\r\nb\rc".encode()), encoding="cp1252", newline="\n")),
        ("stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii")),
        ("stderr", Terminal(io.BytesIO(), encoding="latin-1")),
    ):
        monkeypatch.setattr(sys, name, stream)
    use_utf8_streams()
    assert sys.stdin.read() == "café\nb\nc"
    for stream, shown in ((sys.stdout, "é中".encode()), (sys.stderr, b"\xe9?")):
        print("é中", end="", file=stream, flush=True)
        assert stream.buffer.getvalue() == shown


def test_bytes_that_are_not_utf8_never_become_surrogates(monkeypatch):
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a \xff"), encoding="utf-8", errors="surrogateescape")
    )
    use_utf8_streams()
    with pytest.raises(UnicodeDecodeError):
        sys.stdin.read()


@pytest.mark.slow
def test_no_locale_changes_text_that_is_typed_piped_or_written(trained, tmp_path):
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out, checkpoint = tmp_path / "é中.txt", trained("lstm")
    options = {"env": environment | {"LC_ALL": "C"}, "cwd": tmp_path, "encoding": "utf-8"}
    done = run("generate", f"ckpt={checkpoint}", "prompt=é 中", "max_words=0", f"out={out}", **options)
    assert (done.returncode, done.stdout, out.read_text(encoding="utf-8")) == (0, "é 中\n", "é 中\n"), done.stderr
    options["env"] = environment | {"PYTHONIOENCODING": "cp1252"}
    scored = run("score", f"ckpt={checkpoint}", "format=json", input="é 中", **options)
    assert '"words": ["é", "中"' in scored.stdout


@pytest.mark.slow
def test_two_processes_train_in_one_folder_of_any_name(text_folder, tmp_path):
    folder = "a=b, 'c' \"d\" [x]*?{é}:% ~!\\"
    options = small(text_folder, "trainer.devices=2", "trainer.max_epochs=1", "test=false", f"hydra.run.dir={folder}")
    done = run("train", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    assert (tmp_path / folder / "metrics.json").exists()
