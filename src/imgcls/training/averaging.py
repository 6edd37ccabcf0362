"""Averages of weights: along the steps of a training, and of its best checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, final

import attrs
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from imgcls.core import options
from imgcls.core.errors import ConfigError

__all__ = ["AveragedModel", "Ema", "Soup", "greedy_soup"]

State = Mapping[str, Tensor]


@final
@attrs.frozen(kw_only=True)
class Ema:
    """The exponential moving average of the weights, used to validate and kept instead of them.

    Attributes:
        decay: Share of the average that stays at a step.
        warmup: Whether the n-th step, from 0, keeps at most (1 + n) / (10 + n), so that the
            weights of the start are soon forgotten.
    """

    decay: float = attrs.field(default=0.999, validator=options.fraction())
    warmup: bool = attrs.field(default=True, validator=options.instance(bool))

    def over(self, model: nn.Module) -> AveragedModel:
        """Begin an average.

        Args:
            model: The model, not wrapped or compiled; the average begins as a copy of it.

        Returns:
            The average.
        """
        return AveragedModel(ema=self, average=_copies(model.state_dict()))

    def kept(self, updates: int) -> float:
        """Compute the share of the average that stays.

        Args:
            updates: How often it was updated before.

        Returns:
            The share.
        """
        return min(self.decay, (1 + updates) / (10 + updates)) if self.warmup else self.decay


@final
@attrs.define(kw_only=True, eq=False)
class AveragedModel:
    """A moving average of a model's parameters and buffers.

    Floating-point values are averaged, the statistics of batch norm too; counters are copied.
    timm's and torch's classes keep a second module instead of values and have other warm-ups, and
    timm's state lacks the number of updates, without which no training resumes exactly.

    Attributes:
        ema: How fast it forgets.
        average: The values by name.
        updates: How often it was updated.
    """

    ema: Ema
    average: dict[str, Tensor]
    updates: int = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in a model after an optimizer step.

        Args:
            model: The model.
        """
        pairs = [(self.average[name], value) for name, value in model.state_dict().items()]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        mean, new = (list(values) for values in zip(*floats, strict=True))
        average = get_ema_multi_avg_fn(self.ema.kept(self.updates))  # type: ignore[no-untyped-call]
        average(mean, new, self.updates)
        for old, value in pairs:
            if not old.is_floating_point():
                old.copy_(value)
        self.updates += 1

    @contextlib.contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Lend a model the averaged values.

        Args:
            model: The model; afterwards it has its own values again, bit by bit.

        Yields:
            Nothing.
        """
        own = _copies(model.state_dict())
        try:
            model.load_state_dict(self.average)
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """Say what the average is.

        Returns:
            The number of updates and the values, which are not copied.
        """
        return {"updates": self.updates, "average": self.average}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another average was.

        Args:
            state: What its `state_dict` returned, from any device.
        """
        for name, value in self.average.items():
            value.copy_(state["average"][name])
        self.updates = state["updates"]


def _copies(state: State) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


@attrs.frozen(kw_only=True, eq=False)
class Soup:
    """An average of checkpoints.

    Attributes:
        weights: The model's state.
        members: Which candidates are in it, from 0.
        score: Its score.
    """

    weights: dict[str, Tensor]
    members: tuple[int, ...]
    score: tuple[float, ...]


def greedy_soup(candidates: Iterable[State], score: Callable[[State], tuple[float, ...]]) -> Soup:
    """Average those checkpoints that do not make the average worse (Wortsman et al., 2022, recipe 1).

    Floating-point values are averaged in double precision, the statistics of batch norm too: they
    are those of one training, close to each other. Counters are those of the best candidate.

    Args:
        candidates: States of one model, the best first; a generator that reads one after the
            other saves memory.
        score: Judges a state on the validation records, such as by the rank that chooses the
            best checkpoint; more is better.

    Returns:
        The soup; of the first candidate alone it is that candidate, bit by bit.

    Raises:
        ConfigError: if there is no candidate, or one has other tensors.
    """
    soup, total = None, {}
    for number, candidate in enumerate(candidates):
        if soup is None:
            soup = Soup(weights=_copies(candidate), members=(0,), score=score(candidate))
            total = _sum({}, candidate)
            continue
        if _form(candidate) != _form(soup.weights):
            raise ConfigError(f"'candidates' must hold the tensors of one model, got others in number {number}")
        mixed = _sum(total, candidate)
        weights = _mean(mixed, len(soup.members) + 1, soup.weights)
        reached = score(weights)
        if reached >= soup.score:
            soup, total = Soup(weights=weights, members=(*soup.members, number), score=reached), mixed
    if soup is None:
        raise ConfigError("'candidates' must be at least one, got none")
    return soup


def _form(state: State) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in state.items()}


def _sum(total: State, state: State) -> dict[str, Tensor]:
    floats = {name: value.double() for name, value in state.items() if value.is_floating_point()}
    return {name: total[name] + value if total else value for name, value in floats.items()}


def _mean(total: State, count: int, others: State) -> dict[str, Tensor]:
    return {
        name: (total[name] / count).to(value.dtype) if name in total else value.clone()
        for name, value in others.items()
    }
