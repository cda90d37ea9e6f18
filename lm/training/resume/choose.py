"""Choose the checkpoint to resume from, and check that its config and corpus match this run's."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig

from lm.checkpoints import checkpoint
from lm.checkpoints.find import find_checkpoint, newest_first
from lm.config.launch import started_again
from lm.config.plain_data import cut
from lm.config.validation import snapshot
from lm.data import Corpus
from lm.errors import UserError
from lm.training.resume.validation import KEY, Resumed, check_resumable
from lm.training.run_folder import LOCK

MUST_MATCH = ("data", "model", "optimizer", "scheduler", "regularizer", "averaging", "seed")
# the location of the text may change: `check_same_text` compares the text itself
MAY_DIFFER = (
    *("data.root", "data.cache_dir", "data.source", "data.name", "model.embedding.pretrained"),
    *("model.num_params", "model.num_params_of"),  # the width that they are solved for must not change
)


def continue_run(config: DictConfig) -> Resumed | None:
    """The checkpoint to resume from, or None for a new run; sets the run folder in `config` to the checkpoint's.

    A command restarted by SLURM or torchrun resumes its own run. A checkpoint outside any run folder, such as a copy,
    starts a run in a new folder.
    """
    own = Path(config.run_dir, "checkpoints", "last.ckpt").absolute()
    plain = snapshot(config)
    if config.ckpt == "last":
        path, stored = _newest(config, plain)
    elif started_again() and own.exists():
        path, stored = own, checkpoint.load(own)
    elif config.ckpt == "best":
        raise UserError("ckpt=best given, but a run is resumed from its last.ckpt: give ckpt=last, or its folder.")
    elif config.ckpt is not None:
        path = find_checkpoint(config.ckpt, "last.ckpt", Path(config.run_dir).parent).absolute()
        stored = checkpoint.load(path)
    else:
        path, stored = None, None
    if path is not None and path.parent.name == "checkpoints" and Path(path.parents[1], LOCK).exists():
        config.run_dir = str(path.parent.parent)
    elif not started_again() and any(own.parent.glob("*.ckpt")):
        raise UserError(
            f"{config.run_dir} holds checkpoints of another run: resume it by {quote(f'ckpt={own}')}, "
            "or choose another hydra.run.dir."
        )
    if path is None or stored is None:
        return None
    if difference := _difference(stored, plain):
        raise UserError(
            f"The run of ckpt={path} had another {difference}: resume with the same one, "
            f"or begin a new run without ckpt. Only the trainer, callbacks and logger may change."
        )
    for unit, done in {"steps": stored.step, "epochs": stored.epoch}.items():
        limit = config.trainer.get(f"max_{unit}")
        if limit is not None and 0 <= limit < done:
            raise UserError(
                f"trainer.max_{unit}={limit} given, but the run of ckpt={path} has done {done} {unit} already: "
                "give more, or leave it out."
            )
    # TensorBoard hides values after the checkpoint; the CSV logger starts another file
    for logger, key, value in (("tensorboard", "purge_step", stored.step), ("csv", "version", f"csv_{stored.step}")):
        if logger in config.logger:
            config.logger[logger] = {**config.logger[logger], key: value}
    return Resumed(path, stored.step, stored.config)


def check_same_text(path: Path, corpus: Corpus) -> None:
    """Compare the text that a run was trained on with `corpus`; a changed test split only causes a warning."""
    stored = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    if KEY not in stored:
        raise UserError(f"ckpt={path} holds a model, but nothing to resume a run from: use last.ckpt of its run.")
    check_resumable(stored, path)
    then, now = stored[KEY]["text"], corpus.checksums()
    changed = [part for part in now if then[part] != now[part]]
    if changed == ["test"]:
        _say(f"The test text is not the one that the run of ckpt={path} began with: do not compare its results.")
    elif changed:
        what = f"another {'training' if 'train' in changed else 'validation'} text"
        if "vocabulary" in changed:
            what = _changed_words(stored[checkpoint.KEY]["vocabulary"], corpus.vocabulary.words)
        raise UserError(
            f"The run of ckpt={path} was trained on another text ({what}): give data.root the folder of its own text, "
            "or begin a new run without ckpt."
        )


def _changed_words(old: list[str], new: list[str]) -> str:
    if set(old) == set(new):
        return f"the same {len(new):,} words, but in another order of frequency"
    added, lost = len({*new} - {*old}), len({*old} - {*new})
    return f"a vocabulary of {len(old):,} words, now {len(new):,}: {added:,} are new and {lost:,} are gone"


def _newest(config: DictConfig, plain: Mapping[str, Any]) -> tuple[Path, checkpoint.Checkpoint]:
    """The newest run with this config; reports which newer ones are damaged, and how the newest one differs."""
    runs = Path(config.run_dir).absolute().parent
    skipped = ""
    for path in newest_first(runs.glob("*/checkpoints/last.ckpt")):
        try:
            stored = checkpoint.load(path)
        except UserError as error:
            _say(f"Skipped for ckpt=last: {error}")
            skipped = skipped or f" (the newest, {path}, cannot be read)"
            continue
        difference = _difference(stored, plain)
        if difference is None:
            if skipped:
                _say(f"Resuming {path}{skipped}.")
            return path, stored
        skipped = skipped or f" (the newest, {path}, had another {difference})"
    raise UserError(
        f"ckpt=last given, but no run in {runs} has this config and a last.ckpt{skipped}: begin one without ckpt."
    )


def _difference(stored: checkpoint.Checkpoint, config: Mapping[str, Any]) -> str | None:
    """The first key that must not change but differs, with both values."""
    old, new = ({name: part.get(name) for name in MUST_MATCH} for part in (stored.config, config))
    return next(_differences(old, new), None)


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    if path in MAY_DIFFER:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif old != new:
        yield f"{cut(path)} ({cut(str(old))}, now {cut(str(new))})"


def _say(message: str) -> None:
    rank_zero_only(print)(message, file=sys.stderr, flush=True)
