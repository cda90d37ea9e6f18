"""How well a model predicts a text, under the protocols and with the aids of the literature."""

from lm.evaluation.cache import NeuralCache
from lm.evaluation.dynamic import DynamicEvaluation, GradientStatistics
from lm.evaluation.evaluation import Evaluation
from lm.evaluation.evaluator import Evaluator, Result
from lm.evaluation.layout import Layout
from lm.evaluation.measurement import Measurement, Variant, measure

__all__ = [
    "DynamicEvaluation",
    "Evaluation",
    "Evaluator",
    "GradientStatistics",
    "Layout",
    "Measurement",
    "NeuralCache",
    "Result",
    "Variant",
    "measure",
]
