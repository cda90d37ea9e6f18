"""Learning-rate schedules, step by step."""

import copy
from functools import partial

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


@pytest.mark.parametrize(("warmup_ratio", "total_steps"), [(0, 10), (0.1, 10), (0.05, 10), (0.01, 100)])
def test_one_cycle_with_a_warmup_of_a_step_or_less_starts_near_its_peak(warmup_ratio, total_steps):
    optimizer = sgd(lr=1.0, momentum=0.9)
    config = schedules.one_cycle(optimizer, total_steps, warmup_ratio, div_factor=10, final_div_factor=1000)
    rates = used_rates(optimizer, config, total_steps)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.95
    assert rates[-1] == pytest.approx(1e-4)


def test_one_cycle_has_its_own_momentum():
    optimizer = sgd(lr=1.0, momentum=0.5)
    momenta = {"base_momentum": 0.7, "max_momentum": 0.8}
    config = schedules.one_cycle(optimizer, 101, 0.5, div_factor=10, final_div_factor=1000, **momenta)
    used = []
    for _ in range(101):
        used.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        config["scheduler"].step() if len(used) < 101 else None
    assert (used[0], min(used), used[-1]) == (pytest.approx(0.8), pytest.approx(0.7, abs=0.001), pytest.approx(0.8))


def test_cosine_warms_up_in_a_line_and_falls_to_zero():
    optimizer = sgd(lr=2.0)
    rates = used_rates(optimizer, schedules.cosine(optimizer, 104, warmup_steps=4), 105)
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[54] == pytest.approx(1.0)
    assert rates[104] == pytest.approx(0.0)


def test_cosine_without_warm_up_starts_at_the_top():
    assert schedules.cosine_factor(0, total_steps=10, warmup_steps=0) == 1


def test_linear_warms_up_in_a_line_and_falls_in_a_line_to_zero():
    optimizer = sgd(lr=2.0)
    rates = used_rates(optimizer, schedules.linear(optimizer, 104, warmup_steps=4), 106)
    rising, falling = [0.5, 1.0, 1.5, 2.0], [2 * (104 - step) / 100 for step in range(4, 104)]
    assert rates == pytest.approx([*rising, *falling, 0.0, 0.0])


def test_linear_without_warm_up_starts_at_the_top():
    optimizer = sgd(lr=3.0)
    assert used_rates(optimizer, schedules.linear(optimizer, 3, warmup_steps=0), 4) == pytest.approx([3, 2, 1, 0])


PHASES = {"warmup_ratio": 0.1, "flat_ratio": 0.4, "annealing_ratio": 0.2, "div_factor": 10, "final_div_factor": 20}
MOMENTA = {"base_momentum": 0.7, "max_momentum": 0.8}


def flat_cycle(step: int) -> tuple[float, float]:
    """The learning rate, with a peak of 2, and the momentum of the phases above in 101 steps."""
    if step < 10:
        return 0.2 + 1.8 * step / 10, 0.8 - 0.1 * step / 10
    if step < 50:
        return 2.0, 0.7
    if step < 80:
        return 2 - 1.8 * (step - 50) / 30, 0.7 + 0.1 * (step - 50) / 30
    return 0.2 - 0.19 * (min(step, 100) - 80) / 20, 0.8


def momenta_of(optimizer) -> list[float]:
    return [group["betas"][0] if "betas" in group else group["momentum"] for group in optimizer.param_groups]


@pytest.mark.parametrize("make", [partial(torch.optim.SGD, momentum=0.9), torch.optim.AdamW, torch.optim.Adam])
def test_one_cycle_flat_has_four_phases_of_rate_and_momentum(make):
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = make([{"params": [first]}, {"params": [second], "lr": 4.0, "weight_decay": 0.0}], lr=2.0)
    config = schedules.one_cycle_flat(optimizer, 101, **PHASES, **MOMENTA)
    assert config["interval"] == "step"
    for step in range(103):  # Lightning steps once more after the last
        rate, momentum = flat_cycle(step)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate, 2 * rate])
        assert momenta_of(optimizer) == pytest.approx([momentum] * 2)
        optimizer.step()
        config["scheduler"].step()
    assert all("betas" not in group or group["betas"][1] == 0.999 for group in optimizer.param_groups)


CYCLES = {
    "one_cycle": partial(schedules.one_cycle, warmup_ratio=0.3, div_factor=10, final_div_factor=100),
    "one_cycle_flat": partial(schedules.one_cycle_flat, **PHASES, **MOMENTA),
}


@pytest.mark.parametrize("cycle", CYCLES)
@pytest.mark.parametrize("make", [torch.optim.SGD, partial(torch.optim.Adam, betas=(0.0, 0.999))])
def test_an_optimizer_without_momentum_gets_none_from_a_cycle(cycle, make):
    optimizer = make([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = CYCLES[cycle](optimizer, 10)["scheduler"]
    for _ in range(10):
        assert momenta_of(optimizer) == [0]
        optimizer.step()
        schedule.step()


def test_a_momentum_that_falls_to_zero_rises_again():
    optimizer = sgd(momentum=0.9)
    momenta = {"base_momentum": 0.0, "max_momentum": 0.8}
    used_rates(optimizer, schedules.one_cycle_flat(optimizer, 10, **PHASES, **momenta), 10)
    assert momenta_of(optimizer) == [0.8]


def test_fractions_that_add_up_to_one_may_exceed_it_by_rounding():
    ratios = {"warmup_ratio": 0.56, "flat_ratio": 0.34, "annealing_ratio": 0.1}
    assert sum(ratios.values()) > 1
    optimizer = sgd(lr=2.0)
    rates = used_rates(optimizer, schedules.one_cycle_flat(optimizer, 101, **PHASES | ratios, **MOMENTA), 101)
    assert rates[91:] == pytest.approx([0.2 - 0.19 * step / 10 for step in range(1, 11)])


def test_one_cycle_flat_restored_goes_on_as_it_was():
    rates = []
    for stop in None, 37:
        optimizer = sgd(lr=2.0, momentum=0.9)
        config = schedules.one_cycle_flat(optimizer, 101, **PHASES, **MOMENTA)
        rates.append(used_rates(optimizer, config, stop or 101))
        if stop:
            stored = [copy.deepcopy(each.state_dict()) for each in (optimizer, config["scheduler"])]
            optimizer = sgd(lr=2.0, momentum=0.9)
            config = schedules.one_cycle_flat(optimizer, 101, **PHASES, **MOMENTA)
            optimizer.load_state_dict(stored[0])
            config["scheduler"].load_state_dict(stored[1])
            rates[-1] += used_rates(optimizer, config, 101 - stop)
    assert rates[0] == rates[1]


@pytest.mark.parametrize("cycle", ["one_cycle", "one_cycle_flat"])
def test_a_longer_run_that_resumes_another_has_its_own_cycle(cycle):
    def begun(steps: int) -> tuple[torch.optim.SGD, dict]:
        optimizer = sgd(lr=2.0, momentum=0.9)
        own = (
            PHASES | MOMENTA
            if cycle == "one_cycle_flat"
            else {"warmup_ratio": 0.3, "div_factor": 10, "final_div_factor": 1000}
        )
        return optimizer, getattr(schedules, cycle)(optimizer, steps, **own)

    optimizer, config = begun(40)
    used_rates(optimizer, config, 40)
    stored = [copy.deepcopy(each.state_dict()) for each in (optimizer, config["scheduler"])]
    optimizer, config = begun(80)
    optimizer.load_state_dict(stored[0])
    config["scheduler"].load_state_dict(stored[1])
    resumed = used_rates(optimizer, config, 40)
    assert resumed[1:] == used_rates(*begun(80), 80)[41:]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_cycle_of_few_steps_has_finite_rates(steps):
    optimizer = sgd(lr=2.0)
    rates = used_rates(optimizer, schedules.one_cycle_flat(optimizer, steps, **PHASES, **MOMENTA), steps + 1)
    assert rates[-1] == pytest.approx(0.01)
    assert all(0 < rate <= 2 for rate in rates)


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
        lambda o: schedules.linear(o, 10, warmup_steps=-1),
        lambda o: schedules.one_cycle_flat(o, 10, **PHASES | {"flat_ratio": 0.8}, **MOMENTA),
        lambda o: schedules.one_cycle_flat(o, 10, **PHASES | {"div_factor": 0}, **MOMENTA),
        lambda o: schedules.one_cycle_flat(o, 10, **PHASES, **MOMENTA | {"max_momentum": 1.0}),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(UserError):
        make(sgd())
