import math

import numpy as np
import pytest
import torch
from torch import nn

from imgcls.core.errors import ConfigError
from imgcls.training.optim import AdamW, Constant, Cosine, OneCycle, Optimizer, Schedule, Sgd, to_optimizer, to_schedule

LR = 0.1


class Line(nn.Module):
    """The sum of a weight and a bias, each with a gradient that is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1), 2.0, dtype=torch.float64))
        self.bias = nn.Parameter(torch.full((1,), 2.0, dtype=torch.float64))


def after_two_steps(kind: Optimizer, grads: tuple[float, float]) -> tuple[float, float]:
    model = Line()
    optimizer = kind.over(model, lr=LR)
    for grad in grads:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, grad)
        optimizer.step()
    return model.weight.item(), model.bias.item()


def adamw(value: float, grads: tuple[float, float], *, decay: float, beta1: float, beta2: float) -> float:
    mean = square = 0.0
    for step, grad in enumerate(grads, start=1):
        mean = beta1 * mean + (1 - beta1) * grad
        square = beta2 * square + (1 - beta2) * grad**2
        value *= 1 - LR * decay
        value -= LR * mean / (1 - beta1**step) / (math.sqrt(square / (1 - beta2**step)) + 1e-8)
    return value


def sgd(value: float, grads: tuple[float, float], *, decay: float, momentum: float, nesterov: bool) -> float:
    speed = 0.0
    for step, grad in enumerate(grads):
        full = grad + decay * value
        speed = momentum * speed + full if step else full
        value -= LR * (full + momentum * speed if nesterov else speed)
    return value


def test_two_steps_of_adamw_follow_its_equations() -> None:
    found = after_two_steps(AdamW(weight_decay=0.3, beta1=0.8, beta2=0.9), (1.0, -0.5))
    expected = [adamw(2.0, (1.0, -0.5), decay=decay, beta1=0.8, beta2=0.9) for decay in (0.3, 0.0)]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_of_sgd_follow_its_equations(nesterov: bool) -> None:
    found = after_two_steps(Sgd(weight_decay=0.3, momentum=0.8, nesterov=nesterov), (1.0, -0.5))
    expected = [sgd(2.0, (1.0, -0.5), decay=decay, momentum=0.8, nesterov=nesterov) for decay in (0.3, 0.0)]
    assert found == pytest.approx(expected)


def test_frozen_parameters_are_left_out() -> None:
    model = Line()
    model.weight.requires_grad_(False)
    (group,) = AdamW().over(model, lr=LR).param_groups
    assert group["params"] == [model.bias]


def rates(schedule: Schedule, steps: int) -> list[float]:
    optimizer = Sgd().over(Line(), lr=LR)
    scheduler = schedule.over(optimizer, steps=steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[1]["lr"] == found[-1]
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_constant_keeps_the_learning_rate(steps: int) -> None:
    assert rates(Constant(), steps) == [LR] * steps


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("lowest", [0.0, 0.02])
def test_cosine_goes_down_along_half_a_cosine(steps: int, lowest: float) -> None:
    course = lowest + (LR - lowest) * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    assert rates(Cosine(eta_min=lowest), steps) == pytest.approx(course)


def along_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2 * (math.cos(math.pi * share) + 1)


def test_one_cycle_goes_up_and_down_along_cosines() -> None:
    up = [along_cosine(LR / 25, LR, step / 2) for step in range(3)]  # torch: starts at a 25th, ends at 4e-6
    down = [along_cosine(LR, LR / 25e4, (step + 1) / 7) for step in range(7)]
    assert rates(OneCycle(pct_start=0.3), 10) == pytest.approx(up + down)


@pytest.mark.parametrize("steps", [3, 4, 5, 6, 7, 50])
@pytest.mark.parametrize("share", [0.01, 0.3, 1 / 3, 0.5, 0.99])
def test_one_cycle_of_any_length_ends_low_and_never_exceeds_the_learning_rate(steps: int, share: float) -> None:
    found = rates(OneCycle(pct_start=share), steps)
    assert 0 < min(found) <= max(found) <= LR * (1 + 1e-9)
    assert found[-1] == pytest.approx(LR / 25e4)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("share", [0.01, 0.3, 1 / 3, 0.5, 0.99])
def test_one_cycle_of_one_or_two_steps_begins_near_the_learning_rate(steps: int, share: float) -> None:
    assert rates(OneCycle(pct_start=share), steps)[0] == pytest.approx(LR, rel=0.02)


def test_specs_make_optimizers_and_schedules() -> None:
    assert to_optimizer({"name": "sgd", "momentum": 0.5}) == Sgd(momentum=0.5)
    assert to_schedule("cosine") == Cosine()
    assert to_optimizer(None) is None
    assert to_schedule(None) is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("adam", "'optimizer' must name one of its kinds, got 'adam'; did you mean 'adamw'"),
        ({"name": "sgd", "beta1": 0.5}, "'optimizer.beta1' must be an option of Sgd"),
        ({"name": "sgd", "momentum": 1.0}, "'optimizer.momentum' must be a number .* got 1.0"),
        ({"name": "adamw", "weight_decay": -1}, "'optimizer.weight_decay' must"),
        (3, "'optimizer' must name"),
    ],
)
def test_wrong_optimizers_are_refused_by_path(spec: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        to_optimizer(spec)
