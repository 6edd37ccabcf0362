"""What is said beside a decision: whether the image is like the training data, what else it may be, whether to abstain.

Without torch, so that an exported model says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.evaluation.conformal import Conformal, fit_conformal
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.rejecting import Rejection, fit_rejection
from imgcls.evaluation.thresholds import Threshold
from imgcls.inference.deciding import Decider, Floats
from imgcls.inference.guarding import Guard

__all__ = ["Caution", "Promises"]


@final
@attrs.frozen(kw_only=True, eq=False)
class Caution:
    """What is said beside a decision.

    Attributes:
        guard: What tells images unlike the training data, or None.
        sets: How prediction sets are made, or None.
        reject: When the model abstains, or None.
        neighbours: How many of the nearest training images are named, which needs a guard that knows them.
    """

    guard: Guard | None = None
    sets: Conformal | None = None
    reject: Rejection | None = None
    neighbours: int = 0

    def __attrs_post_init__(self) -> None:
        if self.neighbours < 0:
            raise options.rejected("neighbours", "be a number from 0", self.neighbours)
        if self.neighbours and self.guard is None:
            raise options.rejected("neighbours", "be 0 without a guard", self.neighbours, "'Run.guard' fits one")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it has."""
        named = [f"neighbour_{number}{what}" for number in range(1, self.neighbours + 1) for what in ("", "_class")]
        parts = {"set": self.sets, "rejected": self.reject}
        others = [name for name, part in parts.items() if part is not None]
        return (*(() if self.guard is None else ("distance", "unlike")), *named, *others)

    def columns(self, probs: Floats, features: Sequence[NDArray[np.float32]], decider: Decider) -> dict[str, Any]:
        """Say it.

        Args:
            probs: The probabilities of B images, (B, K).
            features: Their embeddings by each model, (B, D) each.
            decider: What decides.

        Returns:
            (B,) of each name.
        """
        found: dict[str, Any] = {} if self.guard is None else _near(self.guard, features, self.neighbours)
        if self.sets is not None:
            found["set"] = np.array(self.sets.names(probs))
        if self.reject is not None:
            found["rejected"] = self.reject.rejects(decider.confidence(probs))
        return found


def _near(guard: Guard, features: Sequence[NDArray[np.float32]], neighbours: int) -> dict[str, Any]:
    near = guard.near(features, neighbours=neighbours)
    found: dict[str, Any] = {"distance": near.distance, "unlike": near.unlike}
    for number, records in enumerate(near.records.T, start=1):
        found |= {f"neighbour_{number}": guard.ids[records], f"neighbour_{number}_class": guard.labels[records]}
    return found


@final
@attrs.frozen(kw_only=True)
class Promises:
    """Prediction sets and abstention as they are asked for.

    Attributes:
        sets: How often the true class may be missing, or options of `fit_conformal` such as `{"alpha": 0.1, "method":
            "aps"}`, or fitted sets.
        reject: `{"risk": ...}` or `{"coverage": ...}`, as for `fit_rejection`, or a fitted rejection.
    """

    sets: float | Mapping[str, Any] | Conformal | None = None
    reject: Mapping[str, float] | Rejection | None = None

    @property
    def fitted(self) -> bool:
        """Whether something of it was fitted before, so it cannot be fitted to other probabilities."""
        return isinstance(self.sets, Conformal) or isinstance(self.reject, Rejection)

    def fit(self, val: Callable[[], Predictions], thresholds: Sequence[Threshold], decision: str) -> Caution:
        """Fit what is not fitted yet.

        Args:
            val: Gives validation predictions, each record once; not called where nothing is to be fitted.
            thresholds: Those of the models that predicted.
            decision: The rule that decides.

        Returns:
            Both, without a guard.
        """
        sets, reject = self.sets, self.reject
        if sets is not None and not isinstance(sets, Conformal):
            sets = fit_conformal(val(), **(sets if isinstance(sets, Mapping) else {"alpha": sets}))
        if reject is not None and not isinstance(reject, Rejection):
            reject = fit_rejection(val(), thresholds, decision, **reject)
        return Caution(sets=sets, reject=reject)
