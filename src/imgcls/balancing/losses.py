"""The training losses by name; `imgcls.training.losses` computes them.

In the formulas z are the K logits of a record, p = softmax(z) and y is its class.
"""

from __future__ import annotations

from typing import Any, ClassVar, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import config, options

__all__ = ["Bce", "CrossEntropy", "Focal", "LabelSmoothing", "LogitAdjusted", "Loss", "to_loss"]


class Loss(config.Named):
    """A training loss; validation and monitoring always take plain cross-entropy.

    Attributes:
        posterior: Whether the best outputs are the probabilities of the classes in training, so
            that they can be corrected to other priors.
    """

    posterior: ClassVar[bool] = True


@final
@attrs.frozen(kw_only=True)
class CrossEntropy(Loss):
    """-log p_y."""

    name: ClassVar[str] = "cross-entropy"


@final
@attrs.frozen(kw_only=True)
class Bce(Loss):
    """Binary cross-entropy: one logit for two classes, which speaks for class 1; of several labels one each."""

    name: ClassVar[str] = "bce"


@final
@attrs.frozen(kw_only=True)
class Focal(Loss):
    """-(1 - p_y)^gamma log p_y: well classified records count less.

    Lin et al., "Focal Loss for Dense Object Detection", 2017, over a softmax.

    Attributes:
        gamma: How much less.
    """

    name: ClassVar[str] = "focal"
    posterior: ClassVar[bool] = False
    gamma: float = attrs.field(default=2.0, validator=options.number(0, above=True))


@final
@attrs.frozen(kw_only=True)
class LogitAdjusted(Loss):
    """-log softmax(z + tau log pi)_y, where pi are the shares of the classes among the training records.

    The network need not learn the priors, so that it treats classes alike: its plain outputs are as if
    all classes were equally frequent (tau 1). Menon et al., "Long-tail learning via logit
    adjustment", 2021.

    Attributes:
        tau: How much of the priors is taken out.
    """

    name: ClassVar[str] = "logit-adjusted"
    tau: float = attrs.field(default=1.0, validator=options.number(0, above=True))

    def log_priors(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute log pi.

        Args:
            counts: How many training records each class has, (K,).

        Returns:
            Logarithms of the shares (K,). A class without records counts half a record, so that every
            number is finite.
        """
        return np.log(np.maximum(counts, 0.5) / counts.sum())


@final
@attrs.frozen(kw_only=True)
class LabelSmoothing(Loss):
    """-(1 - epsilon) log p_y - epsilon mean_k(log p_k).

    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016.

    Attributes:
        epsilon: The share of the target that is spread over all classes.
    """

    name: ClassVar[str] = "label-smoothing"
    posterior: ClassVar[bool] = False
    epsilon: float = attrs.field(default=0.1, validator=options.fraction())


def to_loss(value: Any) -> Any:
    """Make a loss from its spec.

    Args:
        value: A name, a spec or a loss.

    Returns:
        The loss.
    """
    return config.pick((CrossEntropy, Bce, Focal, LogitAdjusted, LabelSmoothing), value, path="loss")
