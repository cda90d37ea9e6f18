"""The model card of an exported folder, in Hugging Face's format: a YAML header and Markdown, only of what is known."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lm.config.command_line import PATHS
from lm.language_model import LanguageModel
from lm.models.core import core_name
from lm.models.size import describe_parameters

WIKITEXT = (
    "Wikitext was collected by Merity et al., [Pointer Sentinel Mixture Models](https://arxiv.org/abs/1609.07843); its "
    "text is from Wikipedia, under CC BY-SA 3.0."
)
ENGLISH = ("wikitext2", "wikitext103", "ptb", "python_docs")  # names of corpora in conf/data
PLACEHOLDERS = {"root": "DIR", "init_from": "CKPT", "pretrained": "FILE"}  # for paths that training needs
FINE_TUNED = " It began with the weights of another trained model, whose data and licence count, too."
TOKENIZED = (
    "Text is tokenised by the Moses tokenizer: `LanguageModel` does so itself, while `AutoTokenizer` splits at white "
    "space alone and takes `lm.data.tokenize.tokenized(text)`"
)
LOADING = """```python
from lm import LanguageModel

model = LanguageModel.load("FOLDER")
print(model.generate("The", max_words=50)[0])
```

or, with `import lm.export.huggingface` and Hugging Face's
`AutoModelForCausalLM.from_pretrained("FOLDER")` and `AutoTokenizer.from_pretrained("FOLDER")`. Both need the package
`lm`: the folder holds weights, words and a config, but no code that `trust_remote_code` could load.
"""


def model_card(
    model: LanguageModel,
    dtype: str,
    licence: str,
    overrides: Sequence[str] = (),
    metrics: Mapping[str, Any] | None = None,
) -> str:
    """The card of a model.

    Args:
        model: to describe.
        dtype: of the exported weights.
        licence: of the model, by Hugging Face's identifier.
        overrides: the command line that it was trained with; paths are left out or, like `init_from=CKPT`, replaced.
        metrics: of the run, for this very checkpoint, from its metrics.json.
    """
    corpus, core = str(model.config["data"].get("name")), model.config["model"]["core"]
    name = core_name(core)
    english = {"language": "en"} if corpus in ENGLISH else {}
    is_fine_tuned = model.config.get("init_from") is not None
    header = {"license": licence, **english, "library_name": "lm", "tags": ["language-model", "word-level", name]}
    header |= {"pipeline_tag": "text-generation", "metrics": ["perplexity"]}
    words = TOKENIZED if model.tokenize else "Words are separated by white space"
    limits = (
        f"{words}, and words that are not in the vocabulary are read as `<unk>`. The model continues text like that of "
        "its corpus, follows no instructions, and repeats the corpus's biases."
    )
    parts = {
        "Model": f"Parameters: {describe_parameters(model.model)}; stored as {dtype}. {_sizes(model.config['model'])}",
        "Data": _data(corpus, len(model.vocabulary), metrics or {}) + (FINE_TUNED if is_fine_tuned else ""),
        "Recipe": _recipe(overrides),
        "Perplexity": _perplexities(metrics or {}, bool(model.config["data"].get("eval_trim")), dtype),
        "Limits": limits,
        "Use": LOADING,
    }
    body = "".join(f"\n## {title}\n\n{text.rstrip()}\n" for title, text in parts.items() if text)
    head = yaml.safe_dump(header, sort_keys=False)
    return f"---\n{head}---\n\n# A word-level language model ({name})\n{body}"


def _sizes(config: Mapping[str, Any]) -> str:
    parts = {name: value for part in ("embedding", "core") for name, value in config[part].items()}
    return ", ".join(f"`{name}={value}`" for name, value in parts.items() if type(value) is int) + "."


def _data(corpus: str, words: int, metrics: Mapping[str, Any]) -> str:
    seen = metrics.get("train/tokens")
    training = f" Training has read {seen:,} tokens." if isinstance(seen, int) else ""
    wikitext = f" {WIKITEXT}" if corpus.startswith("wikitext") else ""
    return f"Trained on `{corpus}`, with a vocabulary of {words:,} words.{training}{wikitext}"


def _recipe(overrides: Sequence[str]) -> str:
    """The overrides without those of loggers and callbacks, which may have secrets, and without the author's paths."""
    kept = [shlex.quote(each) for each in map(_public, map(str, overrides)) if each]
    command = " \\\n    ".join(["python scripts/train.py", *kept])
    whole = "The config, without loggers, callbacks and paths, is `run` in `config.json`."
    return f"```bash\n{command}\n```\n\n{whole}" if overrides else whole


def _public(override: str) -> str | None:
    """An override as others can use it; None if it is of no use to them."""
    key, _, value = override.partition("=")
    name = key.rpartition(".")[2]
    if "`" in override or key.lstrip("+~").startswith(("logger", "callbacks")):
        return None
    if name in PLACEHOLDERS and value != "null":
        return f"{key}={PLACEHOLDERS[name]}"
    has_path = name in PATHS or re.search(r"(^|[\s=:,'\"\[{(])[/~]", value)
    return None if has_path else override


def _perplexities(metrics: Mapping[str, Any], trim: bool, dtype: str) -> str:
    protocol = "some tokens unscored, as in pytorch/examples" if trim else "every token scored once"
    rows = []
    for split, name in (("val", "validation"), ("test", "test")):
        ppl, tokens = metrics.get(f"{split}/ppl"), metrics.get(f"{split}/tokens")
        if isinstance(ppl, int | float) and isinstance(tokens, int | float):
            rows.append(f"| {name} | {ppl:,.2f} | {tokens:,.0f} | {protocol} |")
    titles = "| split | perplexity | tokens | protocol |\n| --- | ---: | ---: | --- |\n"
    note = "" if dtype == "float32" else f"\n\nMeasured before the weights were rounded to {dtype}."
    return titles + "\n".join(rows) + note if rows else ""
