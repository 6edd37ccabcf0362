"""What each threshold would do, for the page's slider: counts of records, from which the page computes the rest."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from imgcls.evaluation.arrays import Floats
from imgcls.evaluation.predictions import Predictions
from imgcls.report.curves import shown_classes, sweep
from imgcls.report.gallery import deciding_cuts
from imgcls.report.material import Material
from imgcls.report.words import PARTS

__all__ = ["Explorer", "explore"]

#: Thresholds of each part, evenly over its records, and how often groups are drawn for intervals.
_CUTS, _RESAMPLES = 61, 500


@attrs.frozen(kw_only=True, eq=False)
class Explorer:
    """The numbers behind the slider.

    Attributes:
        positive: The class that is looked for.
        cuts: The thresholds, rising.
        start: Where the slider begins: the threshold that decides.
        rule: The rule of that threshold; empty for 0.5.
        prevalence: How frequent the class is in the records that are reported.
        parts: Of validation and test records: name, positives, negatives, and by threshold hits, alarms and the ends of
            the intervals of sensitivity and specificity.
    """

    positive: str
    cuts: list[float]
    start: int
    rule: str
    prevalence: float
    parts: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Lay it out for the page.

        Returns:
            What JSON can hold.
        """
        return attrs.asdict(self)


def explore(material: Material) -> Explorer | None:
    """Count what each threshold would do.

    Args:
        material: The run.

    Returns:
        The numbers; None where there are no two classes, or records lack one.
    """
    known = [part for part in (material.validated, material.tested) if part is not None and part.positive is not None]
    known = [part for part in known if shown_classes(part)]
    if not known:
        return None
    decided = deciding_cuts(material)
    rule, start = decided[0] if decided else ("", 0.5)
    cuts = np.unique([cut for part in known for cut in _spread(part)] + [start, 0.5])
    final = known[-1]
    return Explorer(
        positive=str(final.positive),
        cuts=cuts.tolist(),
        start=int(np.searchsorted(cuts, start)),
        rule=rule,
        prevalence=float(final.has(final.classes.index(str(final.positive))).mean()),
        parts=[_part(part, cuts) for part in known],
    )


def _spread(part: Predictions) -> list[float]:
    found: list[float] = np.quantile(part.scores, np.linspace(0, 1, _CUTS), method="nearest").tolist()
    return found


def _part(part: Predictions, cuts: Floats) -> dict[str, Any]:
    found = sweep(part, thresholds=cuts, resamples=_RESAMPLES)
    ends = {
        f"{name}_{side}": [None if np.isnan(value) else round(float(value), 4) for value in values[name]]
        for side, values in (("low", found.low), ("high", found.high))
        for name in ("sensitivity", "specificity")
    }
    counts = {"hits": found.hits.tolist(), "alarms": found.alarms.tolist()}
    return {"name": PARTS[part.split], "positives": found.positives, "negatives": found.negatives, **counts, **ends}
