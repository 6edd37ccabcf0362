"""Grid search: every combination, in order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, final

import attrs

from imgcls.core.options import count
from imgcls.search.base import Outcome, Plan, SearchBackend, Study, Trial
from imgcls.search.plain import canonical

__all__ = ["Grid"]


@final
@attrs.frozen(kw_only=True)
class Grid(SearchBackend):
    """Try every combination of the space once.

    Attributes:
        points: How many values stand for each `Float` and each logarithmic `Int`, at
            equal distances (equal ratios in a logarithmic range), both ends included.
    """

    points: int = attrs.field(default=5, validator=count(2))

    def _study(self, plan: Plan) -> Study:
        return _GridStudy(plan=plan, rest=_sequence(plan, self.points))


# The parameters of trial 0, 1, ...; a first trial that is a combination comes once.
def _sequence(plan: Plan, points: int) -> Iterator[dict[str, Any]]:
    combinations = plan.space.grid(points=points)
    if plan.first is None:
        return combinations
    own = canonical(plan.first)
    return itertools.chain([plan.first], (params for params in combinations if canonical(params) != own))


@final
@attrs.define(kw_only=True, eq=False)
class _GridStudy(Study):
    rest: Iterator[dict[str, Any]]
    known: list[dict[str, Any]] = attrs.field(factory=list)

    def _propose(self, number: int) -> Trial | None:
        self.known.extend(itertools.islice(self.rest, max(0, number + 1 - len(self.known))))
        return Trial(number=number, params=self.known[number]) if number < len(self.known) else None

    def _stops(self, trial: Trial, *, step: int, value: float) -> bool:  # noqa: ARG002
        return False

    def _learn(self, trial: Trial, outcome: Outcome) -> None:
        pass
