"""Everything that is done about imbalance, in one value, so that it is done once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.balancing.base import Sampler, samplers
from imgcls.balancing.samplers import Uniform
from imgcls.core import options
from imgcls.core.errors import ConfigError, listing, nearest

__all__ = ["Balancer"]

LOSSES = ("cross-entropy", "bce")


def _sampler(spec: Any) -> Sampler:
    return samplers.create(spec)


def _weights(value: Any) -> Any:
    return {str(name): weight for name, weight in value.items()} if isinstance(value, Mapping) else value


@attrs.frozen(kw_only=True)
class Balancer:
    """How training meets classes of different size.

    Attributes:
        sampler: Which records an epoch draws: a name, a spec or a sampler.
        class_weights: Weights of the classes in the training loss: None, `"inverse"` (one
            over the count among the training records) or a mapping from class to weight.
            They are scaled to a mean of 1 over the classes. Validation is never weighted.
        loss: `"cross-entropy"`, or `"bce"`: binary cross-entropy on one logit, for two
            classes.
        allow_stacking: Whether a sampler and class weights may be used together, which
            corrects twice.
    """

    sampler: Sampler = attrs.field(factory=Uniform, converter=_sampler)
    class_weights: str | Mapping[str, float] | None = attrs.field(default=None, converter=_weights)
    loss: str = attrs.field(default="cross-entropy", validator=options.choice(*LOSSES))
    allow_stacking: bool = attrs.field(default=False, validator=options.instance(bool))

    def __attrs_post_init__(self) -> None:
        _check_weights(self.class_weights)
        if self.class_weights is not None and self.sampler != Uniform() and not self.allow_stacking:
            raise ConfigError(
                "'class_weights' must be left out beside a sampler that balances, got both, which corrects twice; "
                "drop one of them or set 'allow_stacking'"
            )

    def weights(self, labels: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float64] | None:
        """Compute the weights of the classes.

        Args:
            labels: Class indices of the training records (N,).
            classes: The classes.

        Returns:
            Weights (K,) with a mean of 1, or None for no weights.

        Raises:
            ConfigError: if a mapping does not name exactly the classes.
        """
        if self.class_weights is None:
            return None
        if isinstance(self.class_weights, str):
            raw = 1.0 / np.maximum(np.bincount(labels, minlength=len(classes)), 1)
        else:
            raw = _mapped(self.class_weights, classes)
        return raw / raw.mean()


def _check_weights(value: Any) -> None:
    if isinstance(value, Mapping):
        bad = {name: weight for name, weight in value.items() if not _good(weight)}
        if bad or not any(value.values()):
            raise options.rejected("class_weights", "be finite, 0 or more and not all 0", dict(value))
    elif value is not None and value != "inverse":
        raise options.rejected("class_weights", "be None, 'inverse' or a mapping from class to weight", value)


def _good(weight: Any) -> bool:
    return isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight < float("inf")


def _mapped(weights: Mapping[str, float], classes: tuple[str, ...]) -> NDArray[np.float64]:
    for name in weights:
        if name not in classes:
            raise ConfigError(f"'class_weights' must name classes, got {name!r}; {nearest(str(name), classes)}")
    missing = [name for name in classes if name not in weights]
    if missing:
        raise ConfigError(f"'class_weights' must name every class, got none for {listing(missing)}")
    return np.array([weights[name] for name in classes], dtype=np.float64)
