"""Export a trained model to ONNX or Hugging Face, or its word vectors."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from lm.config.script import imported, script_main
from lm.errors import UserError

if TYPE_CHECKING:
    from lm import LanguageModel

ENDINGS = {"onnx": ".onnx", "folder": "", "vectors": ".vectors.txt"}
DTYPES = ("float32", "bfloat16", "float16")


def export(config: DictConfig) -> Path | str:
    """Export in the format that `config` selects and return the path, or the address."""
    from lm import LanguageModel
    from lm.checkpoints.find import announced_checkpoint, default_output_path
    from lm.config.checks import one_of
    from lm.files.atomic import check_writable
    from lm.files.errors import explain_os_errors

    imported()
    one_of([*ENDINGS, "hub"], format=config.format)
    one_of(DTYPES, dtype=config.dtype)
    if config.dtype != "float32" and config.format not in ("folder", "hub"):
        raise UserError(f"dtype={config.dtype} with format={config.format} given, but that is written as float32.")
    for key, formats, default in (
        ("out", ENDINGS, None),
        ("repo", ["hub"], None),
        ("private", ["hub"], True),
        ("license", ["folder", "hub"], "unknown"),
    ):
        if config[key] != default and config.format not in formats:
            raise UserError(f"{key}={config[key]} given, but it is for format={' or format='.join(formats)} only.")
    if config.format == "hub":
        return hub(config)
    ckpt = announced_checkpoint(config.ckpt)
    out = Path(config.out).expanduser() if config.out else default_output_path(ckpt, ENDINGS[config.format])
    if config.format != "folder":
        check_writable(out)
    model = LanguageModel.load(ckpt)
    with explain_os_errors(f"write out={out}"):
        if config.format == "folder":
            folder(model, ckpt, config, out)
        else:
            {"onnx": onnx, "vectors": vectors}[config.format](model, out)
    print(f"{config.format}: {out}")
    return out


def onnx(model: "LanguageModel", out: Path) -> None:
    """Write one ONNX file."""
    try:
        from lm.export.onnx import export_onnx

        print(f"onnxruntime differs from torch by at most {export_onnx(model, out):.1e} nats")
    except ImportError as error:
        raise UserError(f"format=onnx needs more packages ({error.name}): pip install -e '.[onnx]'") from error


def folder(model: "LanguageModel", ckpt: Path, config: DictConfig, out: Path) -> None:
    """Write weights, config, vocabulary and model card."""
    from lm.checkpoints.pretrained import export_folder
    from lm.export.model_card import model_card

    card = model_card(model, config.dtype, config.license, *run_of(ckpt))
    export_folder(model.model, model.vocabulary, model.config, out, config.dtype, card)


def run_of(ckpt: Path) -> tuple[list[str], dict[str, object]]:
    """The overrides and metrics of the run that a checkpoint lies in; the metrics where they are this checkpoint's."""
    import yaml

    from lm.checkpoints.checkpoint import load
    from lm.training.runs import METRICS_FILE, parsed

    ckpt = ckpt.absolute()
    if ckpt.parent.name != "checkpoints":
        return [], {}
    run = ckpt.parent.parent
    overrides = parsed(run / ".hydra" / "overrides.yaml", yaml.safe_load)
    metrics = parsed(run / METRICS_FILE, json.loads)
    is_of_it = isinstance(metrics, dict) and ckpt.name == "best.ckpt" and metrics.get("val/step") == load(ckpt).step
    return overrides if isinstance(overrides, list) else [], metrics if is_of_it else {}


def hub(config: DictConfig) -> str:
    """Upload what format=folder writes, and return its address."""
    from lm import LanguageModel
    from lm.checkpoints.find import announced_checkpoint
    from lm.export.hub import check_hub, upload

    check_hub(config.repo)
    ckpt = announced_checkpoint(config.ckpt)
    with TemporaryDirectory() as temporary:
        out = Path(temporary, "model")
        folder(LanguageModel.load(ckpt), ckpt, config, out)
        address = upload(out, config.repo, config.private)
    print(f"hub: {address}")
    return address


def vectors(model: "LanguageModel", out: Path) -> None:
    """Write the embedding's word vectors."""
    import torch

    from lm.data.word_vectors import vectors_text
    from lm.files.text import write_text

    every_word = torch.arange(len(model.vocabulary))[:, None]
    write_text(vectors_text(model.vocabulary, model.model.embedding(every_word).squeeze(1)), out)


main = script_main("export", export)

if __name__ == "__main__":
    main()
