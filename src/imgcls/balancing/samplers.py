"""The samplers that draw records by weight: all alike, or by their class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.balancing.base import Records, Sampler
from imgcls.balancing.drawing import by_key, repeated, systematic
from imgcls.balancing.weighting import (
    check_weights,
    effective_weights,
    inverse_weights,
    named_weights,
    record_weights,
    to_weights,
)
from imgcls.core import options
from imgcls.core.errors import ConfigError, listing

__all__ = ["EffectiveNumber", "Uniform", "Weighted"]


@final
@attrs.frozen(kw_only=True)
class Uniform(Sampler):
    """Every record once an epoch, in random order."""

    corrects: ClassVar[bool] = False
    repeats: ClassVar[bool] = False
    takes_multilabel: ClassVar[bool] = True

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG002
        return rng.permutation(len(records.labels))


def _check_weights(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise options.rejected(field.name, "be a mapping from class to weight, or None", value)
    check_weights(field.name, value)


@final
@attrs.frozen(kw_only=True)
class Weighted(Sampler):
    """As many draws as records, with replacement; the chance of a record follows its class.

    By default that is one over the count of the class among the training records, so that every
    class is equally likely. It is what torch's `WeightedRandomSampler` does.

    Attributes:
        weights: The weight of a record of each class, by the name of the class; the share of a
            class is then its weight times its count. A class of weight 0 is never drawn. Only
            the proportions matter. With several labels a record has the mean of its labels'
            weights, and without a label the mean of all.
    """

    takes_multilabel: ClassVar[bool] = True
    weights: Mapping[str, float] | None = attrs.field(default=None, converter=to_weights, validator=_check_weights)

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG002
        weights = record_weights(records.labels, records.num_classes, self._weigh(records))
        total = weights.sum()
        if not total:
            raise ConfigError("'sampler.weights' must be above 0 for some class with records, got 0 for all of them")
        return rng.choice(len(weights), size=len(weights), p=weights / total)

    def _weigh(self, records: Records) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
        if self.weights is None:
            return inverse_weights
        named = _named(self.weights, records)
        return lambda counts: np.append(named, named.mean())[: len(counts)]


def _named(weights: Mapping[str, float], records: Records) -> NDArray[np.float64]:
    if len(records.classes) != records.num_classes:
        raise ConfigError(
            f"'sampler.weights' must be left out where classes have no names, got weights for {listing(weights)}"
        )
    present = [name for name, count in zip(records.classes, records.counts, strict=True) if count]
    return named_weights(weights, records.classes, needed=present, option="sampler.weights")


@final
@attrs.frozen(kw_only=True)
class EffectiveNumber(Sampler):
    """As many draws as records; a record's share is one over the effective number of its class.

    n records of a class count as (1 - beta^n) / (1 - beta) of them, since more and more of them
    say what others have said (Cui et al., "Class-Balanced Loss Based on Effective Number of
    Samples", 2019). Between the two ends: beta 0 leaves the shares of the data, beta near 1 makes
    classes equal. Each record and each class is drawn the floor or the ceiling of its share.

    Attributes:
        beta: From 0 to below 1; 0.9, 0.99, 0.999 and 0.9999 are usual.
    """

    takes_multilabel: ClassVar[bool] = True
    beta: float = attrs.field(default=0.999, validator=options.number(0, 1, below=True))

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG002
        weights = record_weights(
            records.labels, records.num_classes, lambda counts: effective_weights(counts, self.beta)
        )
        # Records of a class stand together; several labels have no such order.
        order = rng.permutation(len(weights)) if records.multilabel else by_key(records.labels, rng)[0]
        return repeated(order, systematic(weights[order], len(order), rng), rng)
