"""Small corpora and small models that many tests share."""

import atexit
import copy
import functools
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException
from hydra.utils import instantiate
from hypothesis import settings
from omegaconf import DictConfig, OmegaConf

from lm.config.cli import one_line_errors
from lm.config.num_params import without_num_params
from lm.data import EOS, UNK, Vocabulary
from lm.models import CausalLM
from lm.models.recurrent import CELLS

if "PYTEST_XDIST_WORKER" in os.environ:  # workers, and the processes they start, share the cores
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

if "LM_CACHE" not in os.environ:  # else tests would leave their corpora in the user's
    os.environ["LM_CACHE"] = tempfile.mkdtemp(prefix="lm-tests-")
    atexit.register(shutil.rmtree, os.environ["LM_CACHE"], ignore_errors=True)
settings.register_profile("tests", deadline=None)  # other processes share the cores
settings.load_profile("tests")

PROCESS_TIMEOUT = 900  # seconds after which a process counts as hung; generous, for a slow or busy machine
V = 30
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
HAS_SWEEP = find_spec("optuna") is not None and find_spec("hydra_plugins") is not None
needs_sweep = pytest.mark.skipif(not HAS_SWEEP, reason="needs the extra sweep")
ADAM = ("optimizer=adamw", "optimizer.lr=0.03")  # learns the small corpus in two epochs
ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


def options(group: str) -> list[str]:
    """The options of a config group; tests that run over them take up a new one by themselves."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


MODELS, HEADS, EMBEDDINGS = options("model"), options("model/head"), options("model/embedding")
RECURRENT = tuple(CELLS)
LSTMS = ("lstm", "awd_lstm")  # whose layers are torch's LSTM, which needs AVX-512 in bfloat16
VARIANTS = {  # of conf/model/transformer.yaml
    "transformer_pre": {"norm": "pre"},
    "transformer_rotary": {"positions": "rotary"},
    "transformer_gelu": {"activation": "gelu"},
    "transformer_swiglu": {"activation": "swiglu"},
}
TRANSFORMERS = ("transformer", *VARIANTS)
CORES = (*MODELS, *VARIANTS)
DROPOUTS = ("dropout", "output_dropout", "embedding_dropout", "input_dropout", "weight_dropout", "attention_dropout")
SMALL_SIZES = {
    "embedding_size": 12,
    "hidden_size": 12,
    "last_size": 12,
    "feedforward_size": 20,
    "num_layers": 2,
    "num_heads": 2,
    "rounds": 3,
    "context": 16,
    "memory": 6,
    "cutoffs": [4, 12],
    "div_value": 2.0,
    "num_frequent": 4,
    "num_sampled": 10,
    "num_experts": 3,
    "tie_weights": False,
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test does not depend on those before it."""
    torch.manual_seed(0)


@functools.cache
def model_config(*overrides: str) -> dict:
    return OmegaConf.to_container(without_num_params(composed("train", *overrides)).model, resolve=True)


def small_model_config(name: str, *overrides: str, dropout: float = 0.0, **values: object) -> dict:
    """The config of a model with a core of CORES, in which `values` and small sizes replace those of the same key."""
    values = SMALL_SIZES | dict.fromkeys(DROPOUTS, dropout) | values
    config = copy.deepcopy(model_config(f"model={'transformer' if name in VARIANTS else name}", *overrides))
    for part in (config, config["embedding"], config["core"], config["head"]):
        part |= {key: value for key, value in values.items() if key in part}
    config["core"] |= VARIANTS.get(name, {})
    return config


def make_core(name: str, **values: object) -> Callable:
    return instantiate(small_model_config(name, **values)["core"])


def make_model(name: str, *overrides: str, **values: object) -> CausalLM:
    config = small_model_config(name, *overrides, **values)
    torch.manual_seed(0)
    return instantiate(config, vocabulary_size=V).eval()


@pytest.fixture(params=CORES)
def core_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary([EOS, UNK, *(f"w{i}" for i in range(V - 2))])


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with structure: a word is mostly followed by its successor."""
    folder = tmp_path_factory.mktemp("corpus")
    chooser = random.Random(0)
    for split, lines in (("train", 150), ("valid", 30), ("test", 31)):
        text = []
        for _ in range(lines):
            word, words = chooser.randrange(20), []
            for _ in range(chooser.randrange(3, 20)):
                words.append(f"w{word}")
                word = (word + 1) % 20 if chooser.random() < 0.8 else chooser.randrange(20)
            text.append(" ".join(words))
        (folder / f"{split}.txt").write_text("\n".join(text) + "\n")
    return folder


@pytest.fixture(scope="session")
def wikitext2() -> Path:
    """The real corpus, where the environment names its folder."""
    if "LM_WIKITEXT2" not in os.environ:
        pytest.skip("set LM_WIKITEXT2 to the folder of the real Wikitext-2")
    return Path(os.environ["LM_WIKITEXT2"])


def wait_for(process: subprocess.Popen, text: str) -> None:
    """Read what a process prints until `text` comes."""
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"ended without printing {text!r}")


FIGURES = ("log_prob_heat_map", "surprisal_text", "tensorboard_layout")


def small(text_folder: Path, *overrides: str, figures: bool = False) -> list[str]:
    """The command line of a training run of a second or two; figures would take as long again."""
    return [
        "data=text",
        f"data.root={text_folder}",
        f"data.cache_dir={text_folder}/cache",
        "data.batch_size=4",
        "data.bptt=8",
        "model.embedding.embedding_size=16",
        "model.core.hidden_size=16",
        "trainer.log_every_n_steps=10",
        *(f"~callbacks.{name}" for name in FIGURES if not figures),
        *overrides,
    ]


def tiny_config(text_folder: Path, run_dir: Path, *overrides: str, figures: bool = False) -> DictConfig:
    """The same as a config, for `train`."""
    own = ("data.eval_batch_size=3", "trainer.max_epochs=4", f"run_dir={run_dir}")
    return composed("train", *small(text_folder, *own, *overrides, figures=figures))


def run(script: str, *arguments: object, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "scripts" / f"{script}.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PROCESS_TIMEOUT, **options)


def make_run(
    folder: Path,
    *,
    seed: int | str = 1,
    loss: float = 4.0,
    model: dict | None = None,
    data: dict | None = None,
    overrides: tuple[str, ...] = ("model=lstm",),
    curve: list[tuple[int, float]] | None = None,
) -> Path:
    """A run's folder as scripts/train.py leaves it, without checkpoints; `curve` has steps and losses."""
    points = [(10, loss + 1), (20, loss)] if curve is None else curve
    rows = [f"{step - 1},{each},{step / 10},{step * 10}" for step, each in points]
    costs = {"parameters": 1000, "train/tokens": 200, "minutes": 2.0, "tokens_per_second": 1.5}
    costs |= {"epochs": 2, "steps": 20}
    config = {"seed": seed, "run_dir": "${hydra:runtime.output_dir}", "model": model or {}, "data": data or {}}
    files = {
        ".hydra/config.yaml": OmegaConf.to_yaml(config),
        ".hydra/overrides.yaml": OmegaConf.to_yaml([*overrides, f"seed={seed}"]),
        "metrics.json": json.dumps({"val/loss": loss, "val/ppl": math.exp(loss), "test/ppl": 60.0} | costs),
        "csv/metrics.csv": "\n".join(["step,val/loss,train/minutes,train/tokens", *rows, "20,,,", ""]),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def composed(script: str, *overrides: str) -> DictConfig:
    """The config of a script; each choice of options is composed once, since that takes a fifth of a second."""
    config = copy.deepcopy(with_options(script, *filter(chooses_an_option, overrides)))
    others = [parsed(each) for each in overrides if not chooses_an_option(each)]
    ConfigLoaderImpl._apply_overrides_to_config(others, config)
    return config


@functools.cache
def with_options(script: str, *choices: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(script, list(choices))


def chooses_an_option(override: str) -> bool:
    return (CONF / override.lstrip("+~").partition("=")[0]).is_dir()


@functools.cache
def parsed(override: str) -> Override:
    return OverridesParser.create().parse_override(override)


def mistake(function: Callable[[DictConfig], object], *overrides: str) -> str:
    """The one line that a script's function ends in, for a user's mistake."""
    config = composed(function.__name__, *overrides)
    with pytest.raises(CompactHydraException) as caught:
        one_line_errors(function)(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="session")
def trained(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The best checkpoint of a small LSTM or Transformer, trained on the small corpus once a session."""
    from scripts.train import train

    checkpoints: dict[str, Path] = {}

    def checkpoint(model: str) -> Path:
        if model not in checkpoints:
            run_dir = tmp_path_factory.mktemp(model)
            # with 0.03 a Transformer has a perplexity of 10 after four epochs, with 0.01 4
            adam = ("optimizer=adamw", "optimizer.lr=0.01") if model == "transformer" else ADAM
            train(tiny_config(text_folder, run_dir, f"model={model}", *adam, figures=True))
            checkpoints[model] = run_dir / "checkpoints" / "best.ckpt"
        return checkpoints[model]

    return checkpoint
