"""Optimizers and learning-rate schedules as values that a configuration can hold."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, final

import attrs
import torch
from torch import nn
from torch.optim import lr_scheduler

from imgcls.core import config, options

__all__ = ["AdamW", "Constant", "Cosine", "OneCycle", "Optimizer", "Schedule", "Sgd", "to_optimizer", "to_schedule"]


class Optimizer(config.Named, abc.ABC):
    """An optimizer before it knows the parameters."""

    weight_decay: float

    @final
    def over(self, model: nn.Module, *, lr: float) -> torch.optim.Optimizer:
        """Make the optimizer of the parameters that train.

        Biases and the scales of normalisations are not decayed, as is usual.

        Args:
            model: The model.
            lr: The learning rate.

        Returns:
            The optimizer.
        """
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return self._make([group for group in groups if group["params"]], lr)

    @abc.abstractmethod
    def _make(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer: ...


@final
@attrs.frozen(kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Attributes:
        weight_decay: Decay of the weights a step, in units of the learning rate.
        beta1: Decay of the mean of the gradient.
        beta2: Decay of the mean of its square.
    """

    name: ClassVar[str] = "adamw"
    weight_decay: float = attrs.field(default=0.01, validator=options.number(0))
    beta1: float = attrs.field(default=0.9, validator=options.number(0, 1, below=True))
    beta2: float = attrs.field(default=0.999, validator=options.number(0, 1, below=True))

    def _make(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=lr, betas=(self.beta1, self.beta2))


@final
@attrs.frozen(kw_only=True)
class Sgd(Optimizer):
    """Stochastic gradient descent with momentum.

    Attributes:
        weight_decay: Decay of the weights, added to the gradient.
        momentum: Share of the last step that goes on.
        nesterov: Whether the gradient is taken after that share.
    """

    name: ClassVar[str] = "sgd"
    weight_decay: float = attrs.field(default=1e-4, validator=options.number(0))
    momentum: float = attrs.field(default=0.9, validator=options.number(0, 1, below=True))
    nesterov: bool = attrs.field(default=False, validator=options.instance(bool))

    def __attrs_post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise options.rejected("nesterov", "be False without momentum", self.nesterov)

    def _make(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov)


class Schedule(config.Named, abc.ABC):
    """A course of the learning rate over the optimizer steps of a stage."""

    @abc.abstractmethod
    def over(self, optimizer: torch.optim.Optimizer, *, steps: int) -> lr_scheduler.LRScheduler:
        """Bind the course to an optimizer, whose learning rate is the highest of the course.

        Args:
            optimizer: The optimizer.
            steps: Optimizer steps of the stage.

        Returns:
            The scheduler, to be stepped after each optimizer step.
        """


@final
@attrs.frozen(kw_only=True)
class Constant(Schedule):
    """The same learning rate throughout."""

    name: ClassVar[str] = "constant"

    def over(self, optimizer: torch.optim.Optimizer, *, steps: int) -> lr_scheduler.LRScheduler:
        """Bind the course to an optimizer.

        Args:
            optimizer: The optimizer.
            steps: Makes no difference.

        Returns:
            The scheduler.
        """
        return lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=steps)


@final
@attrs.frozen(kw_only=True)
class Cosine(Schedule):
    """From the learning rate down to `eta_min` along half a cosine (Loshchilov and Hutter, 2017).

    Attributes:
        eta_min: The lowest learning rate.
    """

    name: ClassVar[str] = "cosine"
    eta_min: float = attrs.field(default=0.0, validator=options.number(0))

    def over(self, optimizer: torch.optim.Optimizer, *, steps: int) -> lr_scheduler.LRScheduler:
        """Bind the course to an optimizer.

        Args:
            optimizer: The optimizer.
            steps: Optimizer steps of the stage.

        Returns:
            The scheduler.
        """
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=self.eta_min)


@final
@attrs.frozen(kw_only=True)
class OneCycle(Schedule):
    """Up to the learning rate and down to nearly nothing, both along cosines (Smith, 2018).

    Attributes:
        pct_start: The share of the steps that go up.
    """

    name: ClassVar[str] = "one-cycle"
    pct_start: float = attrs.field(default=0.3, validator=options.fraction())

    def over(self, optimizer: torch.optim.Optimizer, *, steps: int) -> lr_scheduler.LRScheduler:
        """Bind the course to an optimizer.

        Args:
            optimizer: The optimizer.
            steps: Optimizer steps of the stage.

        Returns:
            The scheduler.
        """
        peaks = [group["lr"] for group in optimizer.param_groups]
        # torch divides by the steps of each phase; a stage of a few steps needs both, one of one or two steps only goes
        # down, from nearly the highest rate.
        share = min(max(self.pct_start, 1.5 / steps), 1 - 1 / steps) if steps > 2 else 0.3
        return lr_scheduler.OneCycleLR(
            optimizer, max_lr=peaks, total_steps=max(steps, 3), pct_start=share, cycle_momentum=False
        )


def to_optimizer(value: Any) -> Any:
    """Make an optimizer from its spec.

    Args:
        value: A name, a spec, an optimizer, or None, which stays.

    Returns:
        The optimizer, or None.
    """
    return None if value is None else config.pick((AdamW, Sgd), value, path="optimizer")


def to_schedule(value: Any) -> Any:
    """Make a schedule from its spec.

    Args:
        value: A name, a spec, a schedule, or None, which stays.

    Returns:
        The schedule, or None.
    """
    return None if value is None else config.pick((Constant, Cosine, OneCycle), value, path="schedule")
