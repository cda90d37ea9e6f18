"""An exported folder as a Hugging Face model: after `import lm.export.huggingface`, AutoModelForCausalLM finds it."""

from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from lm.checkpoint import refuse_foreign_targets
from lm.export.folder import MODEL_TYPE
from lm.models import TokenModel
from lm.reader import Reader


class LMConfig(PretrainedConfig):
    """The exported config.json; `run` is the config of the run that trained the model."""

    model_type = MODEL_TYPE


class ReaderCache(Reader):
    """What has been read, in the place of keys and values, within every core's context."""

    is_compileable = False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Go on with these of the texts, as beam search asks for."""
        self.select(beam_idx)


class LMForCausalLM(PreTrainedModel, GenerationMixin):
    """A TokenModel with Hugging Face's signature: batch first, log-probabilities in nats as logits."""

    config_class = LMConfig
    model: TokenModel

    def __init__(self, config: LMConfig) -> None:
        super().__init__(config)
        refuse_foreign_targets(config.run["model"], "lm.models.")
        self.model = instantiate(config.run["model"], vocabulary_size=config.vocab_size)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        past_key_values: ReaderCache | None = None,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool = True,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Read `[B, T]`: logits `[B, T, V]` are log-probabilities; the loss is the mean of labels 1 … T - 1 in nats.

        In training mode a text is one window, with gradients; else it may be of any length, as for `lm.reader.Reader`.

        Raises:
            ValueError: if the attention mask hides a word: texts of a batch must be of one length.
        """
        if attention_mask is not None and not attention_mask.all():
            raise ValueError("Padded texts are not supported: give texts of one length, or one at a time.")
        cache = past_key_values
        if self.training:
            log_probs, _state = self.model(input_ids.T)
        else:
            cache = cache or ReaderCache(self.model, len(input_ids))
            log_probs = cache.read(input_ids.T).clone()  # which may leave inference mode
        logits = log_probs.transpose(0, 1)
        loss = None
        if labels is not None:
            loss = torch.nn.functional.nll_loss(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        kept = cache if use_cache else None
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=kept)  # type: ignore[arg-type]

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave the weights as our own modules begin with; a trained model's are read from its file."""

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """The state is our own, and the first forward pass makes it."""
        return False


AutoConfig.register(MODEL_TYPE, LMConfig)
AutoModelForCausalLM.register(LMConfig, LMForCausalLM)
