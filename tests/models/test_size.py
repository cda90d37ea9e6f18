"""The numbers of parameters add up, tied weights count once, and the nearest width is found."""

import pytest
import torch
from hydra.utils import instantiate

from lm.models.size import describe_parameters, nearest_width, parameter_counts
from tests.conftest import CORES, V, make_model, model_config, small_model_config

E = H = 12
TIED = {
    "softmax": (),
    "sampled": ("model/head=sampled",),
    "mixture": ("model/head=mixture",),
    "adaptive": ("model/head=adaptive", "model/embedding=adaptive"),
}


@pytest.mark.parametrize(
    ("core", "head"),
    [(core, head) for core in CORES for head in TIED if head == "softmax" or core in ("lstm", "transformer")],
)
@pytest.mark.parametrize("tied", [False, True])
def test_the_parts_are_all_of_the_models_parameters_and_tied_ones_count_once(core, head, tied):
    model = make_model(core, *TIED[head], tie_weights=tied)
    counts = parameter_counts(model)
    assert list(counts) == ["embedding", "core", "head"]
    assert sum(counts.values()) == sum(parameter.numel() for parameter in model.parameters())
    assert counts["embedding"] == sum(parameter.numel() for parameter in model.embedding.parameters())
    assert counts["core"] == sum(parameter.numel() for parameter in model.core.parameters())
    tables = sum(table.numel() for table in model.embedding.tables) if tied else 0
    assert counts["head"] == sum(parameter.numel() for parameter in model.head.parameters()) - tables


def test_an_lstms_parameters_are_those_counted_by_hand():
    core = 2 * (4 * H * (E + H) + 2 * 4 * H)
    untied, tied = make_model("lstm"), make_model("lstm", tie_weights=True)
    assert parameter_counts(untied) == {"embedding": V * E, "core": core, "head": V * H + V}
    assert parameter_counts(tied) == {"embedding": V * E, "core": core, "head": V}
    assert describe_parameters(untied) == "3,246 = embedding 360 + core 2,496 + head 390"
    assert describe_parameters(tied) == "2,886 = embedding 360 + core 2,496 + head 30 (tied)"


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_on_the_meta_device_has_the_same_numbers(tied):
    with torch.device("meta"):
        model = instantiate(small_model_config("transformer", tie_weights=tied), vocabulary_size=V)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert describe_parameters(model) == describe_parameters(make_model("transformer", tie_weights=tied))


@pytest.mark.parametrize(
    ("experiment", "millions"),
    [("awd_lstm", 33.6), ("awd_lstm_mos", 35), ("mogrifier", 35), ("mogrifier_24m", 24), ("transformer_xl", 37.7)],
)
def test_the_literatures_models_have_their_papers_numbers_of_parameters(experiment, millions):
    config = model_config(f"experiment={experiment}")
    with torch.device("meta"):
        model = instantiate(config, vocabulary_size=33278)  # Wikitext-2's
    assert sum(parameter_counts(model).values()) == pytest.approx(1e6 * millions, rel=0.01)


@pytest.mark.parametrize("asked", [0, 1, 8, 9, 13, 99, 100, 101, 10**9])
def test_the_nearest_width_is_that_of_a_search_of_all(asked):
    def count(width: int) -> int:
        return 3 if width == 10 else width**2

    widths = [width for width in range(1, 50) if width != 10]
    found = nearest_width(count, widths, asked, others=[10])
    assert abs(count(found) - asked) == min(abs(count(width) - asked) for width in (*widths, 10))
