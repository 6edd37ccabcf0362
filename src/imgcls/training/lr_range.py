"""The learning-rate range test: a short training at rising rates that finds a good one (Smith, 2017)."""

from __future__ import annotations

import contextlib
import copy
import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imgcls.core.errors import TrainingError

__all__ = ["Curve", "lr_range", "plot", "rising", "suggest"]

#: A loss so many times the first one has diverged.
_DIVERGED = 4.0

#: Losses on each side that the smoothed curve averages.
_BESIDE = 2

#: The suggestion is the rate of the lowest loss over this, as in fastai's `minimum`.
_MARGIN = 10.0


@attrs.frozen(kw_only=True, eq=False)
class Curve:
    """The loss of steps at rising learning rates.

    Attributes:
        lrs: The learning rates (N,).
        losses: The training loss before the step at each rate (N,).
    """

    lrs: NDArray[np.float64]
    losses: NDArray[np.float64]

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """The mean of each loss and its two neighbours on each side, as far as there are any, (N,)."""
        window = np.ones(2 * _BESIDE + 1)
        counts = np.convolve(np.ones(len(self.losses)), window)[_BESIDE:-_BESIDE]
        means: NDArray[np.float64] = np.convolve(self.losses, window)[_BESIDE:-_BESIDE] / counts
        return means

    def csv(self) -> str:
        """Write the curve as a table.

        Returns:
            CSV with columns lr, loss and smoothed.
        """
        text = io.StringIO()
        rows = zip(self.lrs.tolist(), self.losses.tolist(), self.smoothed.tolist(), strict=True)
        csv.writer(text, lineterminator="\n").writerows([("lr", "loss", "smoothed"), *rows])
        return text.getvalue()


def rising(low: float = 1e-7, high: float = 10.0, *, num: int = 100) -> NDArray[np.float64]:
    """Make learning rates in equal ratios.

    Args:
        low: The first.
        high: The last.
        num: How many.

    Returns:
        The rates (num,).

    Examples:
        >>> rising(0.001, 0.1, num=3).round(6)
        array([0.001, 0.01 , 0.1  ])
    """
    return np.geomspace(low, high, num)


def lr_range(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: Callable[[int], float],
    lrs: Sequence[float] | NDArray[np.float64],
) -> Curve:
    """Train a step at each learning rate and put everything back.

    It ends early where the loss is not finite or four times the first one.

    Args:
        model: The model; its parameters, buffers and random state are as before afterwards.
        optimizer: Its optimizer, as `Optimizer.over` makes it; put back too.
        step: Does a training step with the batch of that number, from 0: zeroes the gradients,
            computes them, steps the optimizer and returns the loss.
        lrs: Rising learning rates.

    Returns:
        The curve up to the end; a loss that is not finite is not in it.
    """
    losses: list[float] = []
    with _untouched(model, optimizer):
        for number, lr in enumerate(lrs):
            for group in optimizer.param_groups:
                group["lr"] = float(lr) * group["lr_scale"]
            loss = step(number)
            if not math.isfinite(loss):
                break
            losses.append(loss)
            if loss > _DIVERGED * losses[0]:
                break
    return Curve(lrs=np.array(lrs[: len(losses)]), losses=np.array(losses))


@contextlib.contextmanager
def _untouched(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    devices = {parameter.device for parameter in model.parameters()} - {torch.device("cpu")}
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        optimizer.zero_grad(set_to_none=True)


def suggest(curve: Curve) -> float:
    """Choose a learning rate: that of the lowest smoothed loss over 10.

    At the lowest loss the rate is already so high that the loss is about to rise. A tenth of it
    falls less steeply than the steepest descent, but noise does not move it as much.

    Args:
        curve: What a range test found.

    Returns:
        The learning rate.

    Raises:
        TrainingError: if the loss does not fall.
    """
    lowest = int(np.argmin(curve.smoothed)) if len(curve.losses) else 0
    if not lowest:
        raise TrainingError(
            f"the loss must fall at some learning rate, got none among {len(curve.lrs)} rates; give 'lr' a number"
        )
    return float(curve.lrs[lowest]) / _MARGIN


def plot(curve: Curve, path: Path, *, chosen: float) -> None:
    """Draw a curve with the chosen learning rate.

    Args:
        curve: What a range test found.
        path: The PNG file.
        chosen: The learning rate.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(curve.lrs, curve.losses, color="0.75", linewidth=1, label="loss")
    axis.plot(curve.lrs, curve.smoothed, linewidth=1.4, label="smoothed")
    axis.axvline(chosen, color="C3", linestyle="--", linewidth=1, label=f"chosen: {chosen:.2g}")
    axis.set(xscale="log", xlabel="learning rate", ylabel="training loss", title="Learning-rate range test")
    axis.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
