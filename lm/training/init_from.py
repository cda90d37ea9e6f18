"""Fine-tuning: a run that starts from the weights and the vocabulary of a trained model, with a new optimizer."""

import math
from functools import lru_cache

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lm.checkpoints.find import find_checkpoint
from lm.config.checks import one_of
from lm.data import Vocabulary
from lm.data.datamodule import TextDataModule
from lm.data.word_vectors import load_vectors
from lm.errors import UserError
from lm.language_model import LanguageModel
from lm.models import CausalLM, TokenEmbedding

VOCABULARIES = ("keep", "extend")
BIAS = "head.decoder.bias"  # of a softmax over the whole vocabulary


def adopt_model(config: DictConfig) -> None:
    """Put the model of `init_from` into `config`, with the command line's values such as model.core.dropout=0.5.

    The stored config has been checked to name nothing but this project's classes and plain data: its model was loaded.
    """
    if config.init_from is None:
        return
    one_of(VOCABULARIES, init_vocabulary=config.init_vocabulary)
    trained = _trained(str(config.init_from))
    model = OmegaConf.create(trained.config["model"])
    if "pretrained" in model.embedding:
        model.embedding.pretrained = None
    for line in HydraConfig.get().overrides.task if HydraConfig.initialized() else []:
        override = OverridesParser.create().parse_override(line)
        group, _, key = override.key_or_group.partition(".")
        if group.partition("/")[0] != "model":
            continue
        if not key or override.is_delete() or OmegaConf.select(model, key, default=override) is override:
            raise UserError(
                f"{line} given, but init_from={config.init_from} brings its own model, which has no such value: leave "
                "it out, or train without init_from."
            )
        OmegaConf.update(model, key, override.value())
    config.model = model
    if trained.tokenize:
        config.data.tokenize = True


def make_data(config: DictConfig) -> TextDataModule:
    """The corpus of a run, encoded by the vocabulary of `init_from`, if there is one, which it may extend."""
    if config.init_from is None:
        return instantiate(config.data)
    vocabulary = _trained(str(config.init_from)).vocabulary
    if config.init_vocabulary == "extend":
        own = instantiate(config.data).corpus.vocabulary
        vocabulary = Vocabulary([*vocabulary.words, *(word for word in own.words if word not in vocabulary)])
    return instantiate(config.data, vocabulary=vocabulary)


def begin(model: CausalLM, vocabulary: Vocabulary, config: DictConfig) -> None:
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
        weights = {name: _by_word(weight, rows, ours[name]) for name, weight in weights.items()}
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


@lru_cache(maxsize=1)
def _trained(given: str) -> LanguageModel:
    return LanguageModel.load(find_checkpoint(given, key="init_from"))
