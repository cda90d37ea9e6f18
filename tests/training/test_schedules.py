"""Learning-rate schedules, step by step."""

import pytest
import torch

from lm.errors import UserError
from lm.training import schedules


def sgd(lr=20.0, momentum=0.0):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=momentum)


def used_rates(optimizer, config, steps):
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        config["scheduler"].step()
    return rates


def test_divide_on_plateau_divides_by_four_unless_validation_improves():
    optimizer = sgd()
    config = schedules.divide_on_plateau(optimizer, total_steps=100, factor=4)
    assert (config["interval"], config["monitor"]) == ("epoch", "val/loss")
    rates = []
    for loss in (5.0, 4.0, 4.0, 3.9999, 4.5, 3.0):
        config["scheduler"].step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [20, 20, 5, 5, 1.25, 1.25]


def test_one_cycle_starts_at_a_tenth_peaks_and_ends_low():
    optimizer = sgd(lr=1.0, momentum=0.9)
    config = schedules.one_cycle(optimizer, 100, warmup_ratio=0.3, div_factor=10, final_div_factor=1000)
    rates = used_rates(optimizer, config, 100)
    assert config["interval"] == "step"
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert 28 <= rates.index(max(rates)) <= 30
    assert rates[-1] == pytest.approx(1e-4)


def test_one_cycle_works_without_momentum():
    optimizer = sgd()
    config = schedules.one_cycle(optimizer, 10, warmup_ratio=0.5, div_factor=10, final_div_factor=10)
    used_rates(optimizer, config, 10)
    assert optimizer.param_groups[0]["momentum"] == 0


def test_cosine_warms_up_in_a_line_and_falls_to_zero():
    optimizer = sgd(lr=2.0)
    rates = used_rates(optimizer, schedules.cosine(optimizer, 104, warmup_steps=4), 105)
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[54] == pytest.approx(1.0)
    assert rates[104] == pytest.approx(0.0)


def test_cosine_without_warm_up_starts_at_the_top():
    assert schedules.cosine_factor(0, total_steps=10, warmup_steps=0) == 1


def test_constant_never_moves():
    optimizer = sgd()
    assert set(used_rates(optimizer, schedules.constant(optimizer, 10), 10)) == {20.0}


@pytest.mark.parametrize(
    "make",
    [
        lambda o: schedules.divide_on_plateau(o, 10, factor=0.5),
        lambda o: schedules.divide_on_plateau(o, 10, factor=4, patience=-1),
        lambda o: schedules.one_cycle(o, 10, warmup_ratio=1.5, div_factor=10, final_div_factor=10),
        lambda o: schedules.one_cycle(o, 10, warmup_ratio=0.5, div_factor=0, final_div_factor=10),
        lambda o: schedules.cosine(o, 10, warmup_steps=-1),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(UserError):
        make(sgd())
