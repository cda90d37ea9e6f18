"""The command line as it was typed: UTF-8 arguments and streams, free text, and paths that need no quoting."""

import os
import re
import sys
from collections.abc import Collection, Sequence
from urllib.parse import quote, unquote

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from lm.config.cli import user_error_message
from lm.config.overrides import check_command_line, quoted
from lm.errors import UserError

# The last part of every key that takes a path, in any script and at any depth: data.root, hydra.run.dir …
PATHS = {"ckpt", "out", "plot", "file", "prompt_file", "root", "cache_dir", "pretrained", "dir", "subdir", "run_dir"}
PATHS |= {"runs", "dirpath", "path", "filename", "save_dir", "default_root_dir", "output_subdir", "storage"}
PATHS |= {"init_from", "repo"}  # a repository may have a number for its name

FLAGS_WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"}
FLAGS_WITH_VALUE |= {"--config-dir", "-cd", "--experimental-rerun", "--info", "-i"}


def prepare_command_line(script: str, texts: Collection[str] = ()) -> None:
    """Make the streams and arguments of this process UTF-8, and pass free text and paths to Hydra as typed.

    Args:
        script: the script whose config the arguments override.
        texts: the keys whose values are free text.
    """
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        # arguments and file names depend on it: restart this process in UTF-8 mode
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding if sys.stdout else "utf-8")
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    use_utf8_streams()
    try:
        sys.argv[1:] = hydra_arguments(sys.argv[1:], texts)
        check_command_line(script, sys.argv[1:])
    except Exception as error:
        if (message := user_error_message(error)) is None:
            raise
        sys.exit(message)


def use_utf8_streams() -> None:
    """Read and write UTF-8, in any locale; a terminal replaces characters that it cannot show."""
    if sys.stdin:
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict", newline=None)  # type: ignore[union-attr]
    for stream in filter(None, (sys.stdout, sys.stderr)):
        if stream.isatty():
            stream.reconfigure(errors="replace")
        else:  # only file names can contain invalid UTF-8
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def hydra_arguments(arguments: Sequence[str], texts: Collection[str] = ()) -> list[str]:
    """The arguments in Hydra's grammar, in which `texts` and PATHS have the values as typed.

    A path may be quoted for Hydra, `${...}` in it is Hydra's, and with `-m` a comma separates paths, except in the name
    of something that exists.
    """
    multirun = any(re.fullmatch(r"-m|--multi\w*|\+*hydra\.mode=MULTIRUN", each) for each in arguments)
    typed = [_hydra_argument(each, texts, multirun) for each in arguments]
    for i, after in enumerate(arguments[1:]):
        if after.startswith("hydra.job.name=train_ddp_process_"):  # Lightning's, after a folder in quotes as it is
            typed[i] = f"hydra.run.dir={quoted(arguments[i].partition('=')[2][1:-1])}"
    # Hydra requires overrides to be contiguous
    is_override = [
        not each.startswith("-") and before not in FLAGS_WITH_VALUE
        for before, each in zip(["", *arguments], arguments, strict=False)
    ]
    return [each for late in (False, True) for each, mark in zip(typed, is_override, strict=True) if mark == late]


def _hydra_argument(argument: str, texts: Collection[str], multirun: bool) -> str:
    try:
        argument.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(argument).decode(errors="backslashreplace")
        raise UserError(f"{shown} given, but it is not UTF-8: type it in UTF-8, or rename the file.") from None
    key, equals, value = argument.partition("=")
    name = key.lstrip("+")
    if not equals or name.startswith(("-", "~")):
        return argument
    if name in texts:  # the call of a resolver that returns the text: what a resolver returns is never interpreted
        return f"{name}=\"${{typed:'{quote(value, safe=' ')}'}}\""
    if name.rpartition(".")[2] in PATHS:
        return f"{key}={_path(value, multirun and not name.startswith('hydra.'))}"
    return argument


OmegaConf.register_new_resolver("typed", unquote, replace=True)


def _path(value: str, multirun: bool) -> str:
    """A path in Hydra's grammar."""
    value = os.path.expanduser(value)  # noqa: PTH111  # pathlib's refuses ~x where there is no user x
    if value in ("", "null"):
        return value
    if value.startswith("~"):
        value = os.path.abspath(value)  # noqa: PTH100  # pathlib's takes ./~x for ~x
    if os.path.lexists(value):
        return quoted(re.sub(r"(\\*)\$\{", r"\1\1\\${", value))
    try:
        override = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        override = None
    sweep = override is not None and override.is_sweep_override()
    if (sweep and multirun) or (override and not sweep and re.fullmatch(r"(['\"]).*\1", value, re.DOTALL)):
        return value
    return ",".join(map(quoted, value.split(","))) if multirun else quoted(value)
