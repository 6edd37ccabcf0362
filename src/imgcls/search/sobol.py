"""Sobol search: points that fill the space more evenly than chance."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, final

import attrs

from imgcls.core.options import rejected
from imgcls.core.randomness import generator
from imgcls.search.base import Plan, SearchBackend, Study
from imgcls.search.plain import canonical
from imgcls.search.sequence import Sequence, distinct

__all__ = ["Sobol"]

#: Points made at a time: a power of two, as the balance of the sequence wants it.
_BLOCK = 64

#: So many points in a row that are known already say that the space is (nearly) used up.
_SAME = 1024


@final
@attrs.frozen(kw_only=True)
class Sobol(SearchBackend):
    """Go through a scrambled Sobol sequence; Sobol (1967), scrambled as by Owen (1998).

    Each parameter is one dimension, also where it is not active, so conditions do not shift the others. Trials follow
    from the seed, the space and the first trial alone.

    Raises:
        ConfigError: from `open`, if the number of trials is None in a continuous space.
    """

    def _study(self, plan: Plan) -> Study:
        if plan.trials is None and plan.space.size() is None:
            raise rejected("trials", "be a whole number of at least 1 in a continuous space", None)
        return Sequence(plan=plan, rest=distinct(plan, itertools.chain(_points(plan), _rest(plan))))


def _points(plan: Plan) -> Iterator[dict[str, Any]]:
    from scipy.stats import qmc

    sobol = qmc.Sobol(len(plan.space), scramble=True, rng=generator(plan.seed, "sobol"))
    used: set[str] = set()
    same = 0
    while same < _SAME:
        for shares in sobol.random(_BLOCK).tolist():
            params = plan.space.at(shares)
            same = same + 1 if canonical(params) in used else 0
            used.add(canonical(params))
            yield params


# What the sequence had not hit of a discrete space.
def _rest(plan: Plan) -> Iterator[dict[str, Any]]:
    return plan.space.grid() if plan.space.size() is not None else iter(())
