"""Studies whose trials are known beforehand, whatever comes of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, final

import attrs

from imgcls.search.base import Outcome, Plan, Study, Trial
from imgcls.search.plain import canonical

__all__ = ["Sequence", "distinct"]


def distinct(plan: Plan, proposals: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Go through proposals, each once; the user's own configuration comes first.

    Args:
        plan: What the study is to do.
        proposals: Parameters by path.

    Yields:
        The parameters of trial 0, 1, ...
    """
    used: set[str] = set()
    for params in proposals if plan.first is None else itertools.chain([plan.first], proposals):
        if (text := canonical(params)) not in used:
            used.add(text)
            yield params


@final
@attrs.define(kw_only=True, eq=False)
class Sequence(Study):
    """A study that goes through a sequence.

    Attributes:
        rest: The parameters of the trials, those in `known` taken.
        known: The parameters of the first trials.
    """

    rest: Iterator[dict[str, Any]]
    known: list[dict[str, Any]] = attrs.field(factory=list)

    def _propose(self, number: int) -> Trial | None:
        self.known.extend(itertools.islice(self.rest, max(0, number + 1 - len(self.known))))
        return Trial(number=number, params=self.known[number]) if number < len(self.known) else None

    def _stops(self, trial: Trial, *, step: int, value: float) -> bool:  # noqa: ARG002
        return False

    def _learn(self, trial: Trial, outcome: Outcome) -> None:
        pass
