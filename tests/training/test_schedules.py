import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from imgcls.core.dumping import dump
from imgcls.core.errors import ConfigError
from imgcls.training.optimizers import Sgd
from imgcls.training.schedules import Constant, Cosine, Course, OneCycle, Plateau, Schedule, Step, to_schedule

LR = 0.1
EPOCH = 4  # steps
KINDS = [
    Constant(),
    Step(step_size=2, gamma=0.5),
    Plateau(patience=1, factor=0.5, min_lr=0.03),
    Cosine(eta_min=0.01),
    Cosine(t_max=2),
    OneCycle(),
]
VALUES = (0.5, 0.6, 0.6, 0.4, 0.7, math.nan, 0.7, 0.1, 0.2, 0.3)


def optimizer(scale: float = 1.0) -> torch.optim.Optimizer:
    model = nn.ModuleDict({"body": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    return Sgd(weight_decay=0).over(model, lr=LR, lr_scale=scale)


def course(schedule: Schedule, *, epochs: int = 10, warmup: float = 0) -> Course:
    return schedule.over(optimizer(), steps=epochs * EPOCH, steps_per_epoch=EPOCH, warmup=warmup)


def followed(course: Course, *, values: Sequence[float] = VALUES) -> list[float]:
    """The learning rate of each step from here on."""
    found = []
    for number in range(course.state_dict()["step"], course.steps):
        found.append(course.optimizer.param_groups[0]["lr"])
        course.step()
        if (number + 1) % EPOCH == 0:
            course.epoch(values[number // EPOCH])
    return found


def torch_rates(make: Callable[[torch.optim.Optimizer], Any], *, by_epoch: bool, epochs: int = 10) -> list[float]:
    plain = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler, found = make(plain), []
    for number in range(epochs * EPOCH):
        found.append(plain.param_groups[0]["lr"])
        plain.step()
        if not by_epoch:
            scheduler.step()
        elif (number + 1) % EPOCH == 0:
            value = VALUES[number // EPOCH]
            scheduler.step(*((value,) if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else ()))
    return found


def plateau(plain: torch.optim.Optimizer) -> lr_scheduler.ReduceLROnPlateau:
    return lr_scheduler.ReduceLROnPlateau(
        plain, mode="max", factor=0.5, patience=1, threshold=0.01, threshold_mode="abs", min_lr=0.03
    )


@pytest.mark.parametrize(
    ("schedule", "by_epoch", "make"),
    [
        (Constant(), False, lambda plain: lr_scheduler.ConstantLR(plain, factor=1.0)),
        (Step(step_size=3, gamma=0.3), True, lambda plain: lr_scheduler.StepLR(plain, 3, gamma=0.3)),
        (Plateau(patience=1, factor=0.5, min_lr=0.03, min_delta=0.01), True, plateau),
        (Cosine(), False, lambda plain: lr_scheduler.CosineAnnealingLR(plain, 40)),
        (Cosine(eta_min=0.02), False, lambda plain: lr_scheduler.CosineAnnealingLR(plain, 40, eta_min=0.02)),
        (Cosine(t_max=4), False, lambda plain: lr_scheduler.CosineAnnealingLR(plain, 16)),
        (
            OneCycle(pct_start=0.2, div_factor=10, final_div_factor=100),
            False,
            lambda plain: lr_scheduler.OneCycleLR(
                plain, LR, 40, pct_start=0.2, div_factor=10, final_div_factor=100, cycle_momentum=False
            ),
        ),
        (OneCycle(), False, lambda plain: lr_scheduler.OneCycleLR(plain, LR, 40, cycle_momentum=False)),
    ],
)
def test_the_whole_course_is_that_of_torch(schedule: Schedule, by_epoch: bool, make: Any) -> None:
    np.testing.assert_allclose(followed(course(schedule)), torch_rates(make, by_epoch=by_epoch), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), {0: 0.1, 1: 0.1, 19: 0.1}),
        (Cosine(eta_min=0.02), {0: 0.1, 10: 0.06, 20: 0.02}),  # half way the cosine is 0
        (Cosine(t_max=1), {0: 0.1, 2: 0.05, 4: 0.0, 6: 0.05, 8: 0.1}),
        (OneCycle(pct_start=0.5), {0: 0.004, 9: 0.1, 19: 4e-7, 20: 4e-7}),
    ],
)
def test_the_rate_of_single_steps_is_as_computed_by_hand(schedule: Schedule, expected: dict[int, float]) -> None:
    made, found = schedule.over(optimizer(), steps=20, steps_per_epoch=EPOCH), {}
    for number in range(21):
        found[number] = made.lr
        made.step()
    assert {number: found[number] for number in expected} == pytest.approx(expected)


def test_step_drops_after_its_epochs_whatever_their_steps() -> None:
    made, found = course(Step(step_size=2, gamma=0.1)), []
    for steps in (1, 3, 2, 4, 1):
        found.append(made.lr)
        for _ in range(steps):
            made.step()
        made.epoch(0.5)
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_plateau_drops_when_more_than_patience_epochs_bring_nothing() -> None:
    made, found = course(Plateau(patience=1, factor=0.5, min_lr=0.03, min_delta=0.05)), []
    for value in (0.5, 0.54, 0.4, 0.6, math.nan, 0.6, 0.1, 0.2):
        made.epoch(value)
        found.append(made.lr)
    # 0.54 is not better by 0.05, nor is 0.4: two epochs are more than one; so are NaN and 0.6, and then 0.1 and 0.2.
    assert found == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.05, 0.03, 0.03, 0.03])


def test_an_equal_value_is_no_improvement() -> None:
    made = course(Plateau(patience=0, factor=0.5))
    made.epoch(0.5)
    assert made.lr == LR
    made.epoch(0.5)
    assert made.lr == LR / 2


@given(st.sampled_from(KINDS), st.integers(0, 39), st.sampled_from([0, 3, 0.2]))
def test_a_course_that_is_interrupted_anywhere_goes_on_as_it_was(schedule: Schedule, stop: int, warmup: float) -> None:
    warmup = 0 if schedule.warms_up else warmup
    whole = followed(course(schedule, warmup=warmup))
    before = course(schedule, warmup=warmup)
    for number in range(stop):
        before.step()
        if (number + 1) % EPOCH == 0:
            before.epoch(VALUES[number // EPOCH])
    after = course(schedule, warmup=warmup)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert followed(after) == whole[stop:]


@pytest.mark.parametrize("schedule", KINDS)
def test_the_groups_keep_their_shares_and_the_rate_never_exceeds_that_of_the_stage(schedule: Schedule) -> None:
    made = schedule.over(optimizer(scale=0.1), steps=12, steps_per_epoch=EPOCH)
    for _ in range(12):
        body, head = (group["lr"] for group in made.optimizer.param_groups)
        assert head == made.lr
        assert body == pytest.approx(0.1 * head)
        assert 0 <= head <= LR
        made.step()


@pytest.mark.parametrize("schedule", [kind for kind in KINDS if not kind.warms_up])
def test_a_warm_up_rises_evenly_to_the_course_behind_it(schedule: Schedule) -> None:
    found = followed(course(schedule, warmup=4))
    assert found[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])


def test_warm_up_then_cosine_is_that_of_torch() -> None:
    plain = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    up = lr_scheduler.LinearLR(plain, start_factor=1 / 9, total_iters=8)
    chain = lr_scheduler.SequentialLR(plain, [up, lr_scheduler.CosineAnnealingLR(plain, 32)], milestones=[8])
    expected = []
    for _ in range(40):
        expected.append(plain.param_groups[0]["lr"])
        plain.step()
        chain.step()
    np.testing.assert_allclose(followed(course(Cosine(), warmup=8)), expected, rtol=1e-12, atol=1e-14)
    assert followed(course(Cosine(), warmup=0.2)) == followed(course(Cosine(), warmup=8))


@pytest.mark.parametrize(("share", "steps", "expected"), [(0.1, 40, 4), (0.01, 40, 1), (0.99, 2, 1), (0.5, 1, 0)])
def test_a_share_of_few_steps_is_at_least_one_and_leaves_one(share: float, steps: int, expected: int) -> None:
    assert Constant().over(optimizer(), steps=steps, steps_per_epoch=1, warmup=share).warmup == expected


@pytest.mark.parametrize("steps", [3, 4, 5, 6, 7, 50])
@pytest.mark.parametrize("share", [0.01, 0.3, 1 / 3, 0.5, 0.99])
def test_one_cycle_of_any_length_ends_low_and_never_exceeds_the_learning_rate(steps: int, share: float) -> None:
    made, found = OneCycle(pct_start=share).over(optimizer(), steps=steps, steps_per_epoch=steps), []
    for _ in range(steps):
        found.append(made.lr)
        made.step()
    assert 0 < min(found) <= max(found) <= LR
    assert found[0] < LR
    assert found[-1] == pytest.approx(LR / 25e4)


@pytest.mark.parametrize("steps", [1, 2])
def test_one_cycle_of_one_or_two_steps_begins_at_the_learning_rate(steps: int) -> None:
    assert OneCycle().over(optimizer(), steps=steps, steps_per_epoch=1).lr == LR


@pytest.mark.parametrize("schedule", KINDS)
def test_specs_make_schedules_and_are_made_of_them(schedule: Schedule) -> None:
    assert to_schedule(dump(schedule)) == schedule


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cosin", "'schedule' must name one of its kinds, got 'cosin'; did you mean 'cosine'"),
        ({"name": "step", "step_size": 0}, "'schedule.step_size' must be a whole number of at least 1, got 0"),
        ({"name": "step", "gamma": 1.0}, "'schedule.gamma' must be a number .* got 1.0"),
        ({"name": "plateau", "patience": -1}, "'schedule.patience' must"),
        ({"name": "plateau", "factor": 0}, "'schedule.factor' must"),
        ({"name": "cosine", "t_max": 0}, "'schedule.t_max' must"),
        ({"name": "one-cycle", "pct_start": 1.0}, "'schedule.pct_start' must"),
        ({"name": "one-cycle", "div_factor": 0.5}, "'schedule.div_factor' must"),
        ({"name": "constant", "gamma": 0.1}, "'schedule.gamma' must be an option of Constant"),
    ],
)
def test_wrong_schedules_are_refused_by_path(spec: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        to_schedule(spec)


@pytest.mark.parametrize(
    ("schedule", "changes", "message"),
    [
        (Cosine(), {"steps": 0}, "'steps' must be at least 1, got 0; a stage needs an epoch"),
        (Cosine(), {"steps_per_epoch": 0}, "'steps_per_epoch' must be at least 1, got 0"),
        (Cosine(), {"warmup": 40}, "'warmup' must be fewer than the 40 steps of the stage, got 40"),
        (
            OneCycle(),
            {"warmup": 0.1},
            "'warmup' must be 0 with schedule 'one-cycle', which warms up by itself, got 0.1",
        ),
        (Cosine(eta_min=0.2), {}, "'eta_min' must be at most the learning rate 0.1, got 0.2"),
        (Plateau(min_lr=0.2), {}, "'min_lr' must be at most the learning rate 0.1, got 0.2"),
    ],
)
def test_a_course_that_cannot_be_is_refused(schedule: Schedule, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        schedule.over(optimizer(), **{"steps": 40, "steps_per_epoch": 4, **changes})
