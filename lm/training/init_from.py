"""Fine-tuning: a run that starts from the weights and the vocabulary of a trained model, with a new optimizer."""

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lm.checkpoints.find import NEWEST, find_checkpoint
from lm.checkpoints.pretrained import tied_names
from lm.config.checks import one_of
from lm.config.launch import started_again, task_overrides
from lm.data import Vocabulary
from lm.data.datamodule import TextDataModule
from lm.data.word_vectors import load_vectors
from lm.errors import UserError
from lm.language_model import LanguageModel
from lm.models import CausalLM, TokenEmbedding

VOCABULARIES = ("keep", "extend")
LEARNING_RATES = ("optimizer.lr", "learning_rate", "experiment", "hparams_search")  # what gives one
BIAS = "head.decoder.bias"  # of a softmax over the whole vocabulary


def adopt_model(config: DictConfig) -> None:
    """Put the model of `init_from` into `config`, with the command line's values such as model.core.dropout=0.5.

    The stored config has been checked to name nothing but this project's classes and plain data: its model was loaded.
    A resumed run has the model of its own checkpoint.
    """
    one_of(VOCABULARIES, init_vocabulary=config.init_vocabulary)
    if config.init_from is None:
        if config.init_vocabulary != "keep":
            raise UserError(f"init_vocabulary={config.init_vocabulary} given without init_from: give both or none.")
        return
    resumed = _resumed(config)
    if resumed is None:  # by its path, since best and last may soon mean another
        config.init_from = str(find_checkpoint(str(config.init_from), key="init_from").absolute())
    trained = _trained(str(resumed or config.init_from))
    config.model = _changed(OmegaConf.create(trained.config["model"]), config)
    if trained.tokenize:
        config.data.tokenize = True
    given = {override.key_or_group for override in task_overrides()}
    if given and given.isdisjoint(LEARNING_RATES):
        _adopt_learning_rate(config, trained.config.get("optimizer"))


def _resumed(config: DictConfig) -> Path | None:
    """The checkpoint that a run continues from, if that is known before its model is; of ckpt=last it is not."""
    own = Path(config.run_dir, "checkpoints", "last.ckpt").absolute()
    if started_again() and own.exists():
        return own
    if config.ckpt in (None, *NEWEST):
        return None
    return find_checkpoint(str(config.ckpt), "last.ckpt").absolute()


def _changed(model: DictConfig, config: DictConfig) -> DictConfig:
    """The config of a trained model with the command line's values, and without what only a new model has."""
    if "pretrained" in model.embedding:
        model.embedding.pretrained = None
    if "context" in model.core:
        model.core.context = config.data.bptt  # as in conf/model
    for override in task_overrides():
        group, _, key = override.key_or_group.partition(".")
        if group.partition("/")[0] != "model":
            continue
        if not key or override.is_delete() or OmegaConf.select(model, key, default=override) is override:
            raise UserError(
                f"{override.input_line} given, but init_from={config.init_from} brings its own model, which has no "
                "such value: leave it out, or train without init_from."
            )
        OmegaConf.update(model, key, override.value())
    if model.embedding.get("pretrained") and config.init_vocabulary == "keep":
        raise UserError(
            "model.embedding.pretrained given with init_from, but it is for words that the model does not know: give "
            "init_vocabulary=extend, too."
        )
    return model


def _adopt_learning_rate(config: DictConfig, trained_by: Any) -> None:
    """Take the learning rate of the trained model: that of the config is for a model of conf/model."""
    known = trained_by if isinstance(trained_by, Mapping) else {}
    optimizer, lr = known.get("_target_"), known.get("lr")
    if optimizer != config.optimizer._target_ or not isinstance(lr, int | float):
        theirs, ours = (str(each).rpartition(".")[2] for each in (optimizer, config.optimizer._target_))
        raise UserError(
            f"init_from={config.init_from} was trained by {theirs}, and this run's optimizer is {ours}: give "
            f"optimizer.lr for {ours}, or optimizer=NAME for {theirs}."
        )
    config.optimizer.lr = lr
    rank_zero_only(print)(f"optimizer.lr={lr}, as in the training of {config.init_from}")


def make_data(config: DictConfig) -> TextDataModule:
    """The corpus of a run, encoded by the vocabulary of `init_from`, if there is one, which it may extend."""
    if config.init_from is None:
        return instantiate(config.data)
    vocabulary = _trained(str(_resumed(config) or config.init_from)).vocabulary
    if config.init_vocabulary == "extend":
        own = instantiate(config.data).corpus.vocabulary
        vocabulary = Vocabulary([*vocabulary.words, *(word for word in own.words if word not in vocabulary)])
    return instantiate(config.data, vocabulary=vocabulary)


def initialize_weights(model: CausalLM, vocabulary: Vocabulary, config: DictConfig) -> None:
    """Give a new model the weights of `init_from`, or the word vectors that it names, if any, and say so."""
    say, embedding, new = rank_zero_only(print), model.embedding, vocabulary.words
    if config.init_from is not None:
        trained = _trained(str(config.init_from))
        load_weights(model, vocabulary, trained)
        new = vocabulary.words[len(trained.vocabulary) :]
        say(f"begins with the weights of {config.init_from}" + (f", and with {len(new):,} new words" if new else ""))
    if isinstance(embedding, TokenEmbedding) and embedding.pretrained and new:
        found = load_vectors(embedding.pretrained, vocabulary, embedding.weight, new)
        say(f"{found:,} of {len(new):,} words begin with vectors of {embedding.pretrained}")


@torch.no_grad()
def load_weights(model: CausalLM, vocabulary: Vocabulary, trained: LanguageModel) -> None:
    """Copy the weights of a trained model; words that it does not know begin as its `<unk>`.

    They share the probability of `<unk>` evenly with it, so that the others' stays as it was.

    Args:
        model: of the same config but for the size of its vocabulary.
        vocabulary: the words of the trained model, and new ones after them.
        trained: the model to begin from.
    """
    if tied_names(model) != tied_names(trained.model):
        raise UserError("model.head.tie_weights given with init_from, but it must be that of the trained model.")
    weights = trained.model.state_dict()
    new = len(vocabulary) - len(trained.vocabulary)
    if new:
        if not isinstance(model.embedding, TokenEmbedding) or BIAS not in weights:
            raise UserError(
                "init_vocabulary=extend given, but only a model with one embedding table and one softmax over all "
                "words can take new ones: give init_vocabulary=keep."
            )
        rows = torch.tensor([trained.vocabulary.id_of(word) for word in vocabulary.words])
        ours = model.state_dict()
        weights = {name: _by_word(weight, rows, ours.get(name, weight)) for name, weight in weights.items()}
        unknown = rows == trained.vocabulary.unk_id
        weights[BIAS][unknown] -= math.log(1 + new)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"The weights do not fit the model ({str(error).splitlines()[-1].strip()}): of the model of init_from only "
            "values that change no size, such as model.core.dropout, can change."
        ) from error


def _by_word(weight: Tensor, rows: Tensor, ours: Tensor) -> Tensor:
    """A weight of the trained model; one with a row for each word, with those of `rows`."""
    return weight[rows] if weight.shape != ours.shape and len(ours) == len(rows) else weight


def _trained(path: str) -> LanguageModel:
    return _loaded(path, Path(path).stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _loaded(path: str, modified: int) -> LanguageModel:
    return LanguageModel.load(path)
