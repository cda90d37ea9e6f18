"""A model as a folder: model.safetensors, config.json, and tokenizer.json with the vocabulary.

Names and layout are those of Hugging Face, so that `lm.export.huggingface` reads the same folder.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lm.checkpoints import checkpoint
from lm.data.vocabulary import EOS, UNK, Vocabulary
from lm.errors import UserError
from lm.files.atomic import atomic_folder
from lm.models import CausalLM

MODEL_TYPE = "lm"
PRIVATE = ("logger", "callbacks", "run_dir", "ckpt", "init_from")  # of a run's config: the author's, or secret
MACHINE = ("root", "cache_dir", "pretrained")  # of its sections: paths of the machine that trained the model
SPECIAL = {"unk_token": UNK, "eos_token": EOS, "bos_token": EOS}  # no padding: texts of a batch must have equal length


def export_folder(
    model: CausalLM, vocabulary: Vocabulary, config: dict[str, Any], path: Path, dtype: str = "float32", card: str = ""
) -> None:
    """Write a model as a folder, atomically.

    Args:
        model: to write; tied weights are stored once.
        vocabulary: the model's.
        config: of the run that trained it; paths in it become null.
        path: of the folder, which must not exist yet.
        dtype: of the stored weights, which are computed with in float32.
        card: the text of README.md, if there is to be one.
    """
    from safetensors.torch import save  # here: a checkpoint needs none of it

    weights, tied = _stored_once(model)
    rounded = {name: weight.to(getattr(torch, dtype)).clone() for name, weight in weights.items()}
    if not all(weight.isfinite().all() for weight in rounded.values()):
        raise UserError(f"dtype={dtype} given, but a weight is too large for it: use dtype=bfloat16 or float32.")
    texts = {
        "config.json": _config(model, vocabulary, config),
        "tokenizer.json": _tokenizer(vocabulary),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"} | SPECIAL,
    }
    with atomic_folder(path) as folder:
        (folder / "model.safetensors").write_bytes(save(rounded, metadata={"format": "pt"} | tied))
        if card:
            (folder / "README.md").write_text(card, encoding="utf-8")
        for name, content in texts.items():
            (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def read_folder(path: str | Path) -> checkpoint.Checkpoint:
    """Read what `export_folder` wrote, onto the CPU."""
    path = Path(path).expanduser()
    try:
        config, tokenizer = (json.loads((path / name).read_text("utf-8")) for name in ("config.json", "tokenizer.json"))
        ids = tokenizer["model"]["vocab"]
        if list(ids.values()) != list(range(len(ids))):
            raise UserError("the ids of its vocabulary are not 0, 1, 2 …")
        return checkpoint.checked(read_weights(path / "model.safetensors"), config["run"], list(ids))
    except UserError as error:
        raise UserError(f"The folder {path} is refused: {error}.") from error
    except Exception as error:  # untrusted files may contain anything
        raise UserError(f"The folder {path} is damaged or not one of scripts/export.py: use another one.") from error


def read_weights(file: Path) -> dict[str, Tensor]:
    """The weights by name, in float32, the tied ones under each of theirs."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as stored:
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (no mapping)
        tied = stored.metadata() or {}
    halves = (torch.float16, torch.bfloat16)
    weights = {name: weight.float() if weight.dtype in halves else weight for name, weight in weights.items()}
    return weights | {name: weights[first] for name, first in tied.items() if first in weights and name not in weights}


def tied_names(model: torch.nn.Module) -> dict[str, str]:
    """Each further name of a tied weight, with the name that it has first."""
    first: dict[int, str] = {}
    named = model.named_parameters(remove_duplicate=False)
    names = {name: first.setdefault(id(weight), name) for name, weight in named}
    return {name: kept for name, kept in names.items() if name != kept}


def _stored_once(model: CausalLM) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights by their first names, and each further name with the first, as safetensors' own metadata has it."""
    tied = {checkpoint.WEIGHTS + name: checkpoint.WEIGHTS + first for name, first in tied_names(model).items()}
    weights = {checkpoint.WEIGHTS + name: weight for name, weight in model.state_dict().items()}
    return {name: weight for name, weight in weights.items() if name not in tied}, tied


def _public(config: dict[str, Any]) -> dict[str, Any]:
    """A run's config without what is of the author's machine."""
    return {name: _without_paths(part) for name, part in config.items() if name not in PRIVATE}


def _without_paths(value: Any) -> Any:
    """A config in which paths, which are of the author's machine, are null."""
    if isinstance(value, dict):
        return {name: None if name in MACHINE else _without_paths(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_paths(each) for each in value]
    return None if isinstance(value, str) and value.startswith(("/", "~")) else value


def _config(model: CausalLM, vocabulary: Vocabulary, config: dict[str, Any]) -> dict[str, Any]:
    """Hugging Face's config of the model; the entry `run` is our own."""
    ids = {"bos_token_id": vocabulary.eos_id, "eos_token_id": vocabulary.eos_id}
    sizes = {"vocab_size": len(vocabulary), "max_position_embeddings": model.core.context}
    kind = {"model_type": MODEL_TYPE, "architectures": ["LMForCausalLM"], "dtype": "float32"}
    return kind | sizes | ids | {"tie_word_embeddings": bool(tied_names(model)), "run": _public(config)}


def _tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    """Hugging Face's tokenizer: whitespace-separated words, with `<eos>` before a text and at each line's end."""
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    begin = {"SpecialToken": {"id": EOS, "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary.index[word], "content": word} | special for word in (EOS, UNK)],
        "normalizer": {"type": "Replace", "pattern": {"String": "\n"}, "content": f" {EOS} "},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {EOS: {"id": EOS, "ids": [vocabulary.eos_id], "tokens": [EOS]}},
        },
        # a space before each word, also the first: what follows a prompt is decoded alone and put behind it
        "decoder": {"type": "Replace", "pattern": {"Regex": "^"}, "content": " "},
        "model": {"type": "WordLevel", "vocab": vocabulary.index, "unk_token": UNK},
    }
