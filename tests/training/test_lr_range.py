import copy
import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from imgcls.core.errors import TrainingError
from imgcls.testing.values import chance_untouched
from imgcls.training.lr_range import Curve, lr_range, plot, rising, suggest
from imgcls.training.optimizers import Adam, Optimizer, Sgd

CURVATURE = 4.0  # of the quadratic: a rate of 1/4 is the best for one step, above 1/2 it diverges


class Bowl(nn.Module):
    """Half the curvature times the square of a weight; each call counts and draws."""

    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self) -> torch.Tensor:
        self.steps += 1
        torch.rand(3)
        return CURVATURE / 2 * self.weight.square().sum()


def curve(model: Bowl, optimizer: torch.optim.Optimizer, lrs: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Curve:
    def step(_: int) -> float:
        optimizer.zero_grad()
        loss = model()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return lr_range(model, optimizer, step, lrs)


def bowl(kind: Optimizer) -> tuple[Bowl, torch.optim.Optimizer]:
    model = Bowl()
    return model, kind.over(model, lr=0.3)


def by_hand(lrs: list[float]) -> list[float]:
    weight, losses = 1.0, []
    for lr in lrs:
        losses.append(CURVATURE / 2 * weight**2)
        weight *= 1 - lr * CURVATURE
        if losses[-1] > 4 * losses[0]:
            break
    return losses


def test_the_curve_of_a_quadratic_is_as_computed_by_hand() -> None:
    lrs = rising(1e-4, 100, num=120)
    found = curve(*bowl(Sgd(momentum=0, weight_decay=0)), lrs)
    expected = by_hand(lrs.tolist())
    assert len(expected) < len(lrs)  # it stops where the loss is four times the first
    np.testing.assert_allclose(found.losses, expected, rtol=1e-9)
    np.testing.assert_array_equal(found.lrs, lrs[: len(expected)])


def test_the_suggestion_for_a_quadratic_is_below_its_best_rate_and_of_its_size() -> None:
    found = suggest(curve(*bowl(Sgd(momentum=0, weight_decay=0)), rising(1e-4, 100, num=120)))
    assert 0.1 / CURVATURE <= found <= 1 / CURVATURE


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_lowest_smoothed_loss() -> None:
    losses = np.array([5.0, 5, 4, 4, 3, 0, 9, 2, 2, 2, 2, 3, 8])  # the lowest single loss is noise
    found = Curve(lrs=rising(1e-3, 1, num=13), losses=losses)
    expected = [np.mean(losses[max(0, number - 2) : number + 3]) for number in range(13)]
    np.testing.assert_allclose(found.smoothed, expected)
    assert suggest(found) == pytest.approx(found.lrs[9] / 10)


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 1.5, 3.0]])
def test_a_loss_that_never_falls_gives_no_suggestion(losses: list[float]) -> None:
    lrs = rising(num=3)[: len(losses)]
    with pytest.raises(
        TrainingError, match=f"the loss must fall at some learning rate, got none among {len(losses)} rates"
    ):
        suggest(Curve(lrs=lrs, losses=np.array(losses)))


@pytest.mark.parametrize("count", range(1, 7))
def test_curves_of_any_length_are_smoothed(count: int) -> None:
    found = Curve(lrs=rising(num=count), losses=np.full(count, 2.0))
    np.testing.assert_allclose(found.smoothed, np.full(count, 2.0))


@pytest.mark.parametrize(("losses", "kept"), [([3.0, 2.0, math.nan, 1.0], 2), ([1.0, 3.9, 4.1, 1.0], 3)])
def test_a_loss_that_diverges_ends_the_curve(losses: list[float], kept: int) -> None:
    model, optimizer = bowl(Sgd())
    found = lr_range(model, optimizer, lambda number: losses[number], rising(num=4))
    assert found.losses.tolist() == losses[:kept]


def test_each_step_has_its_rate_and_groups_keep_their_shares() -> None:
    model = nn.ModuleDict({"body": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    optimizer = Sgd(weight_decay=0).over(model, lr=0.3, lr_scale=0.1)
    seen = []

    def step(_: int) -> float:
        seen.append([group["lr"] for group in optimizer.param_groups])
        return 1.0

    lr_range(model, optimizer, step, [0.01, 0.1])
    assert seen == [pytest.approx([0.001, 0.01]), pytest.approx([0.01, 0.1])]


@pytest.mark.parametrize("kind", [Sgd(), Adam()])
@pytest.mark.parametrize("trained", [0, 2])
def test_model_optimizer_and_chance_are_as_before(kind: Optimizer, trained: int) -> None:
    model, optimizer = bowl(kind)
    for _ in range(trained):
        model().backward()
        optimizer.step()
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    with chance_untouched("range"):
        curve(model, optimizer, rising(1e-4, 100, num=50))
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert repr(optimizer.state_dict()) == repr(state)
    assert model.weight.grad is None


def test_a_step_that_fails_leaves_no_trace() -> None:
    model, optimizer = bowl(Sgd())

    def step(_: int) -> float:
        with torch.no_grad():
            model.weight.fill_(9.0)
        raise TrainingError("no")

    with pytest.raises(TrainingError, match="no"):
        lr_range(model, optimizer, step, [0.1])
    assert model.weight.item() == 1.0
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_the_curve_is_written_and_drawn(tmp_path: Path) -> None:
    found = Curve(lrs=rising(num=3), losses=np.array([3.0, 2.0, 4.0]))
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert [float(row["loss"]) for row in rows] == [3.0, 2.0, 4.0]
    assert [float(row["lr"]) for row in rows] == found.lrs.tolist()
    assert [float(row["smoothed"]) for row in rows] == [3.0, 3.0, 3.0]
    plot(found, tmp_path / "curve.png", chosen=1e-3)
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size == (720, 432)
