"""Grid search: every combination, in order."""

from __future__ import annotations

from typing import final

import attrs

from imgcls.core.options import count
from imgcls.search.base import Plan, SearchBackend, Study
from imgcls.search.sequence import Sequence, distinct

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
        return Sequence(plan=plan, rest=distinct(plan, plan.space.grid(points=self.points)))
