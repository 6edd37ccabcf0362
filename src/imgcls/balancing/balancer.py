"""Everything that is done about imbalance, in one value, so that it is done once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.balancing.base import Records, Sampler, samplers
from imgcls.balancing.losses import Bce, CrossEntropy, LogitAdjusted, Loss, to_loss
from imgcls.balancing.samplers import Uniform
from imgcls.balancing.weighting import (
    check_weights,
    class_counts,
    effective_weights,
    inverse_weights,
    named_weights,
    to_weights,
)
from imgcls.core import options
from imgcls.core.errors import ConfigError

__all__ = ["Balancer"]

#: The beta of effective numbers where none is given.
_BETA = 0.999


def _sampler(spec: Any) -> Sampler:
    return samplers.create(spec)


def _class_weights(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, Mapping):
        check_weights(field.name, value)
    elif value is not None and not (isinstance(value, str) and value in ("inverse", "effective")):
        rule = "be None, 'inverse', 'effective' or a mapping from class to weight"
        raise options.rejected(field.name, rule, value)


def _pos_weight(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, str) and value != "inverse":
        raise options.rejected(field.name, "be None, 'inverse' or a number above 0", value)
    if value is not None and not isinstance(value, str):
        options.number(0, above=True)(_, field, value)


@final
@attrs.frozen(kw_only=True)
class Balancer:
    """How training meets classes of different size.

    Attributes:
        sampler: Which records an epoch draws: a name, a spec or a sampler.
        class_weights: Weights of the classes in the training loss: None, `"inverse"` (one
            over the count among the training records), `"effective"` (one over the effective
            number of records) or a mapping from class to weight. Only their proportions matter,
            since they are brought to a mean of 1 over the draws. Validation is never weighted.
        beta: The parameter of `"effective"`; None takes 0.999.
        pos_weight: For the loss `"bce"`: how much more a record of class 1 (of several labels, a
            record that has the label) counts than another: None, a number, or `"inverse"`, the
            negatives over the positives of the training records.
        loss: A name or spec: `"cross-entropy"`, `"bce"` (one logit for two classes, or several
            labels a record), `"focal"`, `"logit-adjusted"`, `"label-smoothing"`.
        repeats: The augmentation of draws that repeat a record within an epoch; None takes that of
            all.
        correct_priors: Whether the logits of the trained model are shifted back to the shares
            that classes have in the training records, where training saw other ones.
        allow_stacking: Whether several of a sampler that balances, class weights, `pos_weight` and the
            logit-adjusted loss may be used together, which corrects more than once.
    """

    sampler: Sampler = attrs.field(factory=Uniform, converter=_sampler)
    class_weights: str | Mapping[str, float] | None = attrs.field(
        default=None, converter=to_weights, validator=_class_weights
    )
    beta: float | None = attrs.field(default=None, validator=options.optional(options.number(0, 1, below=True)))
    pos_weight: str | float | None = attrs.field(default=None, validator=_pos_weight)
    loss: Loss = attrs.field(factory=CrossEntropy, converter=to_loss)
    repeats: Any = None
    correct_priors: bool = attrs.field(default=False, validator=options.instance(bool))
    allow_stacking: bool = attrs.field(default=False, validator=options.instance(bool))

    def __attrs_post_init__(self) -> None:
        self._refuse_idle()
        self._refuse_stacking()
        self._refuse_correction()

    def _refuse_idle(self) -> None:
        if self.beta is not None and self.class_weights != "effective":
            raise options.rejected("beta", "be left out unless 'class_weights' is 'effective'", self.beta)
        if self.pos_weight is not None and self.loss != Bce():
            remedy = "take the loss 'bce', or 'class_weights'"
            raise options.rejected(
                "pos_weight", f"be left out with the loss {self.loss.name!r}", self.pos_weight, remedy
            )
        if self.repeats is not None and not self.sampler.repeats:
            remedy = "take a sampler such as 'oversample', or change 'augment'"
            raise options.rejected("repeats", "be left out with a sampler that repeats no record", self.repeats, remedy)

    @property
    def corrections(self) -> tuple[str, ...]:
        """What changes the weight of the classes in training on purpose, by the names of the options."""
        used = {
            "sampler": self.sampler.corrects,
            "class_weights": self.class_weights is not None,
            "pos_weight": self.pos_weight is not None,
            "loss": isinstance(self.loss, LogitAdjusted),
        }
        return tuple(name for name, is_used in used.items() if is_used)

    def _refuse_stacking(self) -> None:
        if len(self.corrections) > 1 and not self.allow_stacking:
            first, second = self.corrections[:2]
            raise ConfigError(
                f"'{second}' must not correct imbalance beside '{first}', got {getattr(self, second)!r} and "
                f"{getattr(self, first)!r}, which corrects twice; drop one of them or set 'allow_stacking'"
            )

    def _refuse_correction(self) -> None:
        if not self.correct_priors:
            return
        if not self.loss.posterior:
            raise ConfigError(
                "'correct_priors' must be False with a loss whose outputs are no probabilities of classes, got "
                f"{self.loss.name!r}; take 'cross-entropy' or 'bce', or calibrate instead"
            )
        if not self.corrections and not self.sampler.repeats:
            raise ConfigError(
                "'correct_priors' must be False where nothing changes the priors, got True without a sampler, weights "
                "or loss that does; leave it out"
            )

    def check(self, records: Records, *, batch_size: int) -> None:
        """Refuse records that this cannot be used for, before any training.

        Args:
            records: The training records, with the names of their classes.
            batch_size: How many records make a step.

        Raises:
            ConfigError: if an option does not fit the labels, groups or classes.
        """
        self._refuse_labels(records)
        self.weights(records.labels, records.classes)
        self.sampler.draw(records, batch_size=batch_size, epoch=0, seed=0)

    def _refuse_labels(self, records: Records) -> None:
        name = self.loss.name
        if records.multilabel and self.loss != Bce():
            raise ConfigError(
                f"'loss' must be 'bce' where records have several labels, got {name!r}; say balancer={{'loss': 'bce'}}"
            )
        if not records.multilabel and self.loss == Bce() and records.num_classes != 2:
            raise ConfigError(f"'loss' must be 'cross-entropy' for more than two classes, got {name!r}")
        if records.multilabel and self.correct_priors and self.sampler.corrects:
            raise ConfigError(
                "'correct_priors' must be False where a sampler balances records of several labels, got True: drawing "
                "for one label changes what goes with the others; take 'pos_weight' instead of the sampler"
            )
        idle = self.corrections == ("class_weights",) and not self.sampler.repeats
        if records.multilabel and self.correct_priors and idle:
            raise ConfigError(
                "'correct_priors' must be False where 'class_weights' weigh several labels of a record, got True: no "
                "share of a label changes; leave it out"
            )

    def weights(self, labels: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float64] | None:
        """Compute the weights of the classes in the loss.

        Args:
            labels: Class indices of the training records (N,), or 1 for each class of a record, (N, K).
            classes: The classes.

        Returns:
            Weights (K,) with a mean of 1, or None for no weights. Where they follow from counts, a
            class without records has 0.

        Raises:
            ConfigError: if a mapping does not name exactly the classes, or has 0 for all that have records.
        """
        if self.class_weights is None:
            return None
        counts = class_counts(labels, len(classes))
        raw = self._raw_weights(counts, classes)
        if not raw[counts > 0].any():
            raise ConfigError("'class_weights' must be above 0 for some class with records, got 0 for all of them")
        return raw / raw.mean()

    def _raw_weights(self, counts: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float64]:
        if isinstance(self.class_weights, Mapping):
            return named_weights(self.class_weights, classes, needed=classes, option="class_weights")
        if self.class_weights == "inverse":
            return inverse_weights(counts)
        return effective_weights(counts, _BETA if self.beta is None else self.beta)

    def pos_weights(self, labels: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float64] | None:
        """Compute the weights of positives in the loss.

        Args:
            labels: Class indices of the training records (N,), or 1 for each class of a record, (N, K).
            classes: The classes.

        Returns:
            A weight for each logit: (1,) for two classes, (K,) for several labels; or None for no weights.
            Inverse weights are 1 where there are only positives or only negatives.
        """
        if self.pos_weight is None:
            return None
        counts = class_counts(labels, len(classes))
        positives = counts if labels.ndim == 2 else counts[1:]
        if not isinstance(self.pos_weight, str):
            return np.full(len(positives), float(self.pos_weight))
        negatives = len(labels) - positives
        return np.where(positives * negatives > 0, negatives / np.maximum(positives, 1), 1.0)

    def log_priors(self, labels: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float64] | None:
        """Compute the priors that the logit-adjusted loss takes out of the logits.

        Args:
            labels: Class indices of the training records (N,).
            classes: The classes.

        Returns:
            Logarithms of the shares of the classes (K,), or None for another loss.
        """
        if not isinstance(self.loss, LogitAdjusted):
            return None
        return self.loss.log_priors(class_counts(labels, len(classes)))
