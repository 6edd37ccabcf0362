"""Courses of the learning rate: each a formula of how far the stage is, so that a resumed course is the same."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

import attrs
import torch

from imgcls.core import config, options

__all__ = [
    "Constant",
    "Cosine",
    "Course",
    "Moment",
    "OneCycle",
    "Plateau",
    "Schedule",
    "Step",
    "to_schedule",
    "warmup_option",
]


@attrs.frozen(kw_only=True)
class Moment:
    """How far a stage is.

    Attributes:
        step: Optimizer steps done, without those of the warm-up.
        steps: Optimizer steps of the stage, without those of the warm-up.
        steps_per_epoch: Optimizer steps of an epoch.
        values: The monitored metric after each epoch that is done; more is better.
    """

    step: int
    steps: int
    steps_per_epoch: int
    values: tuple[float, ...] = ()


class Schedule(config.Named, abc.ABC):
    """A course of the learning rate over a stage; a subclass writes the formula."""

    #: Whether the course begins with a warm-up of its own.
    warms_up: ClassVar[bool] = False

    @final
    def over(self, optimizer: torch.optim.Optimizer, *, steps: int, steps_per_epoch: int, warmup: float = 0) -> Course:
        """Bind the course to an optimizer, whose learning rate is the highest of the course.

        Args:
            optimizer: The optimizer, as `Optimizer.over` makes it; its learning rate is set to
                that of the first step.
            steps: Optimizer steps of the stage.
            steps_per_epoch: Optimizer steps of an epoch.
            warmup: Steps before the course in which the learning rate rises evenly, or their
                share of all steps.

        Returns:
            The course.

        Raises:
            ConfigError: if there are no steps, or not more than the warm-up takes.
        """
        for name, value in {"steps": steps, "steps_per_epoch": steps_per_epoch}.items():
            if value < 1:
                raise options.rejected(name, "be at least 1", value, "a stage needs an epoch with at least one batch")
        self.check_warmup(warmup)
        return Course(
            optimizer=optimizer,
            schedule=self,
            steps=steps,
            steps_per_epoch=steps_per_epoch,
            warmup=_warmup_steps(warmup, steps),
        )

    @final
    def check_warmup(self, warmup: float) -> None:
        """Refuse a warm-up before a course that has one.

        Args:
            warmup: Steps, or their share.

        Raises:
            ConfigError: if it has an own one.
        """
        if warmup and self.warms_up:
            raise options.rejected("warmup", f"be 0 with schedule {self.name!r}, which warms up by itself", warmup)

    @abc.abstractmethod
    def _rate(self, lr: float, at: Moment) -> float:
        """Compute the learning rate of a step.

        Args:
            lr: The highest one.
            at: How far the stage is.

        Returns:
            The learning rate of the step that comes next.
        """


@final
@attrs.define(kw_only=True, eq=False)
class Course:
    """A schedule at work on an optimizer; its state is the number of steps and the values so far.

    The learning rate of each group of parameters is that of the course times the group's
    `lr_scale`, so that all groups follow the same curve, its lowest point included.

    Attributes:
        optimizer: Whose learning rate is set.
        schedule: The formula.
        steps: Optimizer steps of the stage.
        steps_per_epoch: Optimizer steps of an epoch.
        warmup: The steps of them that warm up.
    """

    optimizer: torch.optim.Optimizer
    schedule: Schedule
    steps: int
    steps_per_epoch: int
    warmup: int
    _done: int = attrs.field(default=0, init=False)
    _values: tuple[float, ...] = attrs.field(default=(), init=False)

    def __attrs_post_init__(self) -> None:
        self._set()

    @property
    def lr(self) -> float:
        """The learning rate of the step that comes next, where no scale lowers it."""
        at = Moment(
            step=max(0, self._done - self.warmup),
            steps=self.steps - self.warmup,
            steps_per_epoch=self.steps_per_epoch,
            values=self._values,
        )
        rate = self.schedule._rate(self.optimizer.defaults["lr"], at)
        return rate * min(1.0, (self._done + 1) / (self.warmup + 1))

    def step(self) -> None:
        """Go on after an optimizer step."""
        self._done += 1
        self._set()

    def epoch(self, value: float) -> None:
        """Go on after an epoch.

        Args:
            value: The monitored metric, its sign turned where less is better; NaN is no
                improvement.
        """
        self._values += (float(value),)
        self._set()

    def state_dict(self) -> dict[str, Any]:
        """Say how far the course is.

        Returns:
            Plain values.
        """
        return {"step": self._done, "values": list(self._values)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another course was.

        Args:
            state: What its `state_dict` returned.
        """
        self._done, self._values = state["step"], tuple(state["values"])
        self._set()

    def _set(self) -> None:
        lr = self.lr
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]


def _warmup_steps(warmup: float, steps: int) -> int:
    if isinstance(warmup, int):
        if warmup >= steps:
            raise options.rejected("warmup", f"be fewer than the {steps} steps of the stage", warmup)
        return warmup
    return min(max(1, round(warmup * steps)), steps - 1)  # of a few steps it takes one and leaves one


def warmup_option() -> options.Validator:
    """Accept a number of steps of at least 0, or a share of all steps between 0 and 1.

    Returns:
        The validator.
    """

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        steps = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not steps and not (isinstance(value, float) and 0 < value < 1):
            raise options.rejected(field.name, "be a whole number of steps or a share between 0 and 1", value)

    return check


def _lowest(name: str, value: float, lr: float) -> float:
    if value > lr:
        raise options.rejected(name, f"be at most the learning rate {lr:g}", value)
    return value


@final
@attrs.frozen(kw_only=True)
class Constant(Schedule):
    """The same learning rate throughout."""

    name: ClassVar[str] = "constant"

    def _rate(self, lr: float, at: Moment) -> float:  # noqa: ARG002 (it does not depend on it)
        return lr


@final
@attrs.frozen(kw_only=True)
class Step(Schedule):
    """Multiplied by `gamma` after every `step_size` epochs.

    Attributes:
        step_size: Epochs.
        gamma: The factor.
    """

    name: ClassVar[str] = "step"
    step_size: int = attrs.field(default=10, validator=options.count(1))
    gamma: float = attrs.field(default=0.1, validator=options.fraction())

    def _rate(self, lr: float, at: Moment) -> float:
        drops = len(at.values) // self.step_size
        return lr * self.gamma**drops


@final
@attrs.frozen(kw_only=True)
class Plateau(Schedule):
    """Multiplied by `factor` when the monitored metric has not become better for some epochs.

    Attributes:
        patience: Epochs without a better value that are borne; the next one lowers the rate.
        factor: The factor.
        min_lr: The lowest learning rate.
        min_delta: How much better counts as better.
    """

    name: ClassVar[str] = "plateau"
    patience: int = attrs.field(default=10, validator=options.count(0))
    factor: float = attrs.field(default=0.1, validator=options.fraction())
    min_lr: float = attrs.field(default=0.0, validator=options.number(0))
    min_delta: float = attrs.field(default=0.0, validator=options.number(0))

    def _rate(self, lr: float, at: Moment) -> float:
        lowest = _lowest("min_lr", self.min_lr, lr)
        return max(lowest, lr * self.factor ** self._drops(at.values))

    def _drops(self, values: tuple[float, ...]) -> int:
        best, waited, drops = -math.inf, 0, 0
        for value in values:
            if value > best + self.min_delta:
                best, waited = value, 0
            else:
                waited += 1
            if waited > self.patience:
                waited, drops = 0, drops + 1
        return drops


@final
@attrs.frozen(kw_only=True)
class Cosine(Schedule):
    """From the learning rate down to `eta_min` along half a cosine (Loshchilov and Hutter, 2017).

    Attributes:
        eta_min: The lowest learning rate.
        t_max: The epochs after which it is reached; a longer stage rises again along the
            cosine. None is the whole stage.
    """

    name: ClassVar[str] = "cosine"
    eta_min: float = attrs.field(default=0.0, validator=options.number(0))
    t_max: int | None = attrs.field(default=None, validator=options.optional(options.count(1)))

    def _rate(self, lr: float, at: Moment) -> float:
        half = at.steps if self.t_max is None else self.t_max * at.steps_per_epoch
        return _between(lr, _lowest("eta_min", self.eta_min, lr), min(at.step, at.steps) / half)


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


@final
@attrs.frozen(kw_only=True)
class OneCycle(Schedule):
    """Up to the learning rate and down to nearly nothing, both along cosines (Smith, 2018).

    The momentum stays as it is.

    Attributes:
        pct_start: The share of the steps that go up.
        div_factor: The learning rate over that of the first step.
        final_div_factor: The learning rate of the first step over that of the last.
    """

    name: ClassVar[str] = "one-cycle"
    warms_up: ClassVar[bool] = True
    pct_start: float = attrs.field(default=0.3, validator=options.fraction())
    div_factor: float = attrs.field(default=25.0, validator=options.number(1))
    final_div_factor: float = attrs.field(default=1e4, validator=options.number(1))

    def _rate(self, lr: float, at: Moment) -> float:
        first = lr / self.div_factor
        # Both ways need steps; one or two steps only go down, from the highest rate.
        top = min(max(self.pct_start * at.steps, 1.5), at.steps - 1) - 1 if at.steps > 2 else 0
        end = max(at.steps - 1, 2)
        step = min(at.step, end)
        if step < top:
            return _between(first, lr, step / top)
        return _between(lr, first / self.final_div_factor, (step - top) / (end - top))


def to_schedule(value: Any) -> Any:
    """Make a schedule from its spec.

    Args:
        value: A name, a spec, a schedule, or None, which stays.

    Returns:
        The schedule, or None.
    """
    return None if value is None else config.pick((Constant, Step, Plateau, Cosine, OneCycle), value, path="schedule")
