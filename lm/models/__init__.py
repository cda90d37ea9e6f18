"""Language models over token ids: embedding → core → head. Plain modules, independent of Lightning."""

from lm.models.adaptive import AdaptiveEmbedding, AdaptiveHead
from lm.models.causal_lm import CausalLM, TrainingOutputs
from lm.models.core import Core
from lm.models.embedding import Embedding, TokenEmbedding
from lm.models.heads import Head, SoftmaxHead
from lm.models.mixture import MixtureHead
from lm.models.mogrifier import MogrifierCore
from lm.models.qrnn import QRNNCore
from lm.models.recurrent import RecurrentCore
from lm.models.sampled import SampledHead
from lm.models.state import State, map_state
from lm.models.transformer import TransformerCore
from lm.models.transformer_xl import TransformerXLCore
from lm.models.weight_drop import WeightDropCore

__all__ = [
    "AdaptiveEmbedding",
    "AdaptiveHead",
    "CausalLM",
    "Core",
    "Embedding",
    "Head",
    "MixtureHead",
    "MogrifierCore",
    "QRNNCore",
    "RecurrentCore",
    "SampledHead",
    "SoftmaxHead",
    "State",
    "TokenEmbedding",
    "TrainingOutputs",
    "TransformerCore",
    "TransformerXLCore",
    "WeightDropCore",
    "map_state",
]
