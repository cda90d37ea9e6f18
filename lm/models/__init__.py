"""Language models over token numbers: embedding → core → head. Plain modules that know nothing of Lightning."""

from lm.models.core import Core
from lm.models.embedding import TokenEmbedding
from lm.models.heads import SoftmaxHead
from lm.models.recurrent import RecurrentCore
from lm.models.state import State, map_state
from lm.models.token_model import TokenModel
from lm.models.transformer import TransformerCore

__all__ = [
    "Core",
    "RecurrentCore",
    "SoftmaxHead",
    "State",
    "TokenEmbedding",
    "TokenModel",
    "TransformerCore",
    "map_state",
]
