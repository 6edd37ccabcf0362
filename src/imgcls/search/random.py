"""Random search: independent draws, none of them twice."""

from __future__ import annotations

from typing import Any, final

import attrs

from imgcls.core.options import rejected
from imgcls.core.randomness import generator
from imgcls.search.base import Outcome, Plan, SearchBackend, Study, Trial
from imgcls.search.plain import canonical

__all__ = ["Random", "fresh"]

#: Draws for one trial; where all of them are known, the space is (nearly) used up.
_DRAWS = 100


@final
@attrs.frozen(kw_only=True)
class Random(SearchBackend):
    """Draw each trial by chance; Bergstra and Bengio (2012), JMLR 13.

    The parameters of a trial follow from the seed, its number, the space and the first
    trial alone, so an interrupted study continues as if it had not been.

    Raises:
        ConfigError: from `open`, if the number of trials is None in a continuous space.
    """

    def _study(self, plan: Plan) -> Study:
        if plan.trials is None and plan.space.size() is None:
            raise rejected("trials", "be a whole number of at least 1 in a continuous space", None)
        return _RandomStudy(plan=plan)


@final
@attrs.define(kw_only=True, eq=False)
class _RandomStudy(Study):
    def _propose(self, number: int) -> Trial | None:
        params = fresh(self, number)
        return None if params is None else Trial(number=number, params=params)

    def _stops(self, trial: Trial, *, step: int, value: float) -> bool:  # noqa: ARG002
        return False

    def _learn(self, trial: Trial, outcome: Outcome) -> None:
        pass


def fresh(study: Study, number: int) -> dict[str, Any] | None:
    """Draw parameters that no earlier trial has.

    Args:
        study: The study.
        number: The trial.

    Returns:
        The parameters; None where all of a discrete space are used.
    """
    rng = generator(study.plan.seed, "trial", number)
    used = {canonical(entry.trial.params) for entry in study.entries if entry.trial.number < number}
    for _ in range(_DRAWS):
        params = study.plan.space.sample(rng)
        if canonical(params) not in used:
            return params
    return study.plan.space.unused(used)  # chance alone might take long to hit what is left
