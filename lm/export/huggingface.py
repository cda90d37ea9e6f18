"""An exported folder as a Hugging Face model: after `import lm.export.huggingface`, AutoModelForCausalLM finds it."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from lm.checkpoints.checkpoint import WEIGHTS
from lm.checkpoints.pretrained import MODEL_TYPE, read_weights, tied_names
from lm.checkpoints.stored_model import check_weights, stored_model
from lm.config.plain_data import check_plain, shown
from lm.errors import UserError
from lm.generation.incremental import IncrementalDecoder
from lm.models import CausalLM

# the name of the state in `generate`, renamed in transformers 5.24
STATE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"


class LMConfig(PretrainedConfig):
    """The exported config.json; `run` is the config of the run that trained the model."""

    model_type = MODEL_TYPE


class DecoderCache(IncrementalDecoder):
    """The decoder's state in place of a KV cache, for every core."""

    is_compileable = False
    is_croppable = False

    def __init__(self, model: CausalLM, batch_size: int) -> None:
        super().__init__(model, batch_size)
        self.length = 0

    def decode(self, tokens: Tensor) -> Tensor:
        self.length += len(tokens)
        return super().decode(tokens)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.reorder(beam_idx)


class LMForCausalLM(PreTrainedModel, GenerationMixin):
    """A CausalLM with Hugging Face's signature: batch first, log-probabilities in nats as logits."""

    config_class = LMConfig
    model: CausalLM

    def __init__(self, config: LMConfig) -> None:
        stored = _checked(config)
        super().__init__(config)
        self.model = stored_model(stored, config.vocab_size)
        self._tied_weights_keys = tied_names(self)
        self.post_init()

    @classmethod
    def from_pretrained(cls, path: str | Path, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Load an exported folder, whose config and weights are checked as those of a checkpoint are."""
        if Path(path).is_dir():
            config = kwargs.get("config") or LMConfig.from_pretrained(path)
            stored_model(_checked(config), config.vocab_size, _weights(Path(path, "model.safetensors")))
        model = super().from_pretrained(path, *args, **kwargs)
        check_weights(model.state_dict())
        return model

    def forward(
        self,
        input_ids: Tensor,
        cache: DecoderCache | None = None,
        past_key_values: DecoderCache | None = None,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool = True,
        return_dict: bool = True,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Read `[B, T]`: logits `[B, T, V]` are log-probabilities; the loss is the mean of labels 1 … T - 1 in nats.

        In training mode a text is one window, with gradients; else it may be of any length.
        `cache`, which older releases of transformers call `past_key_values`, is the state after an earlier call.
        """
        cache = past_key_values if cache is None else cache
        if cache is not None and not isinstance(cache, DecoderCache):
            raise ValueError(f"A state of type {type(cache).__name__} is given, but this model makes its own.")
        if attention_mask is not None:
            _check_mask(attention_mask, input_ids.size(1), 0 if cache is None else cache.length)
        if self.training:
            log_probs, _state = self.model(input_ids.T)
        else:
            cache = DecoderCache(self.model, len(input_ids)) if cache is None else cache
            log_probs = cache.decode(input_ids.T).clone()  # which may leave inference mode
        logits = log_probs.transpose(0, 1)
        loss = None
        if labels is not None:
            loss = torch.nn.functional.nll_loss(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        output = CausalLMOutputWithPast(loss=loss, logits=logits)
        if use_cache and not self.training:
            output[STATE] = cache
        return output if return_dict else output.to_tuple()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave the weights as our own modules initialise them; a trained model's are read from its file."""

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """The state is our own, created by the first forward pass."""
        return False


def _checked(config: LMConfig) -> object:
    """The stored config of the model, provided that nothing else would make transformers download code."""
    attention = config._attn_implementation
    if attention not in (None, "eager", "sdpa"):  # the name of a repository of kernels
        raise UserError(f"The config is refused: this model does not support attn_implementation={shown(attention)}.")
    if getattr(config, "quantization_config", None) is not None:
        raise UserError("The config is refused: it has a quantization_config, but this model is never quantized.")
    run = getattr(config, "run", None)
    if type(run) is not dict or "model" not in run:
        raise UserError("The config is refused: it has no run.model, which scripts/export.py writes.")
    if type(config.vocab_size) is not int:
        raise UserError(f"The config is refused: vocab_size is {shown(config.vocab_size)}, not a whole number.")
    check_plain(run["model"], "model")
    return run["model"]


def _weights(file: Path) -> dict[str, Tensor]:
    try:
        weights = {name.removeprefix(WEIGHTS): weight for name, weight in read_weights(file).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} is damaged or missing: use another folder of scripts/export.py.") from error
    check_weights(weights)
    return weights


def _check_mask(attention_mask: Tensor, steps: int, past: int) -> None:
    """Check that no word is masked (texts of a batch must be of one length), and that each was read, now or before."""
    if not attention_mask.all():
        raise ValueError("Padded texts are not supported: give texts of one length, or one at a time.")
    if attention_mask.size(-1) != past + steps:
        raise ValueError(
            f"The attention mask is about {attention_mask.size(-1)} words, but {steps} are given and {past} have been "
            "read: give the state after the earlier ones as `cache`."
        )


AutoConfig.register(MODEL_TYPE, LMConfig)
AutoModelForCausalLM.register(LMConfig, LMForCausalLM)
