"""An exported folder as a Hugging Face model: after `import lm.export.huggingface`, AutoModelForCausalLM finds it."""

from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from lm.checkpoint import refuse_foreign_targets
from lm.export.folder import MODEL_TYPE
from lm.models import State, TokenModel, map_state


class LMConfig(PretrainedConfig):
    """The exported config.json; `run` is the config of the run that trained the model."""

    model_type = MODEL_TYPE


class StateCache:
    """The state of any core, in the place of keys and values; its tensors' columns are the texts of a batch.

    Args:
        state: of the core.
        length: the words that it has read.
        batch_dim: see `lm.models.Core`.
    """

    is_compileable = False

    def __init__(self, state: State, length: int, batch_dim: int) -> None:
        self.state = state
        self.length = length
        self.batch_dim = batch_dim

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """The words read."""
        return self.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Go on with these of the texts, as beam search asks for."""
        self.state = map_state(lambda part: part.index_select(self.batch_dim, beam_idx), self.state)


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
        past_key_values: StateCache | None = None,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Read `[B, T]`: logits `[B, T, V]` are log-probabilities; the loss is the mean of labels 1 … T - 1 in nats.

        Raises:
            ValueError: if the attention mask hides a word: texts of a batch must be of one length.
        """
        if attention_mask is not None and not attention_mask.all():
            raise ValueError("Padded texts are not supported: give texts of one length, or one at a time.")
        state, length = (past_key_values.state, past_key_values.length) if past_key_values else (None, 0)
        log_probs, state = self.model(input_ids.T, state)
        logits = log_probs.transpose(0, 1)
        loss = None
        if labels is not None:
            loss = torch.nn.functional.nll_loss(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        cache = StateCache(state, length + input_ids.size(1), self.model.core.batch_dim)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=cache)  # type: ignore[arg-type]  # it only hands it on

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave the weights as our own modules begin with; a trained model's are read from its file."""

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """The state is our own, and the first forward pass makes it."""
        return False


AutoConfig.register(MODEL_TYPE, LMConfig)
AutoModelForCausalLM.register(LMConfig, LMForCausalLM)
