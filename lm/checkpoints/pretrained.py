"""A model as a folder: model.safetensors, config.json, and tokenizer.json with the vocabulary.

Names and layout are those of Hugging Face, so that `lm.export.huggingface` reads the same folder.
"""

import json
from pathlib import Path
from typing import Any

from lm.checkpoints import checkpoint
from lm.data.vocabulary import EOS, UNK, Vocabulary
from lm.errors import UserError
from lm.files.atomic import atomic_folder
from lm.models import CausalLM

MODEL_TYPE = "lm"
SPECIAL = {"unk_token": UNK, "eos_token": EOS, "bos_token": EOS}  # no padding: texts of a batch must have equal length


def export_folder(model: CausalLM, vocabulary: Vocabulary, config: dict[str, Any], path: Path) -> None:
    """Write a model as a folder, atomically; `config` is that of its run, and `path` must not exist yet."""
    from safetensors.torch import save  # here: a checkpoint needs none of it

    weights = {checkpoint.WEIGHTS + name: weight.clone() for name, weight in model.state_dict().items()}
    texts = {
        "config.json": _config(model, vocabulary, config),
        "tokenizer.json": _tokenizer(vocabulary),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"} | SPECIAL,
    }
    with atomic_folder(path) as folder:
        (folder / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
        for name, content in texts.items():
            (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def read_folder(path: str | Path) -> checkpoint.Checkpoint:
    """Read what `export_folder` wrote, onto the CPU."""
    from safetensors.torch import load_file

    path = Path(path).expanduser()
    try:
        config, tokenizer = (json.loads((path / name).read_text("utf-8")) for name in ("config.json", "tokenizer.json"))
        ids = tokenizer["model"]["vocab"]
        if list(ids.values()) != list(range(len(ids))):
            raise UserError("the ids of its vocabulary are not 0, 1, 2 …")
        return checkpoint.checked(load_file(path / "model.safetensors"), config["run"], list(ids))
    except UserError as error:
        raise UserError(f"The folder {path} is refused: {error}.") from error
    except Exception as error:  # untrusted files may contain anything
        raise UserError(f"The folder {path} is damaged or not one of scripts/export.py: use another one.") from error


def _config(model: CausalLM, vocabulary: Vocabulary, config: dict[str, Any]) -> dict[str, Any]:
    """Hugging Face's config of the model; the entry `run` is our own."""
    ids = {"bos_token_id": vocabulary.eos_id, "eos_token_id": vocabulary.eos_id}
    sizes = {"vocab_size": len(vocabulary), "max_position_embeddings": model.core.context}
    return {"model_type": MODEL_TYPE, "architectures": ["LMForCausalLM"], **sizes, **ids, "run": config}


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
