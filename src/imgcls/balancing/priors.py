"""From the shares of the classes that training saw back to those of the data (prior correction)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgcls.balancing.balancer import Balancer
from imgcls.balancing.base import Records
from imgcls.balancing.losses import Bce, LogitAdjusted
from imgcls.balancing.weighting import class_sums
from imgcls.core.errors import ConfigError

__all__ = ["logit_shifts", "prior_shift", "shares"]


def prior_shift(
    balancer: Balancer, records: Records, times: NDArray[np.int64], *, record_weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Compute what is added to the logits so that they speak of the data's shares of the classes.

    A model that was trained with cross-entropy gives the posterior under the priors that training
    saw. By Bayes' rule the posterior under the data's is that times pi_data / pi_seen, normalised: in
    logits an addition (Saerens et al., "Adjusting the Outputs of a Classifier to New a Priori
    Probabilities", 2002). It is exact where training draws the records of a class as the data has them.

    Args:
        balancer: What was done in training.
        records: The training records.
        times: How often each was drawn over the whole training, (N,).
        record_weights: The weight of each in the loss, (N,), or None.

    Returns:
        What to add: (K,), or (1,) for one logit. 0 for a class that training never saw or the data
        does not have: nothing was learnt that could be corrected.

    Raises:
        ConfigError: if the outputs of the loss are no probabilities.
    """
    if not balancer.loss.posterior:
        raise ConfigError(
            f"'loss' must be 'cross-entropy', 'bce' or 'logit-adjusted' to correct priors, got {balancer.loss.name!r}"
        )
    found = logit_shifts(balancer, *shares(balancer, records, times, record_weights=record_weights))
    found = np.nan_to_num(found)
    return found[1:] if balancer.loss == Bce() and not records.multilabel else found


def shares(
    balancer: Balancer, records: Records, times: NDArray[np.int64], *, record_weights: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the shares of the classes in the data and as training saw them.

    Args:
        balancer: What was done in training.
        records: The training records.
        times: How often each was drawn over the whole training, (N,).
        record_weights: The weight of each in the loss, (N,), or None.

    Returns:
        pi_data and pi_seen, both (K,); of several labels the share of records with the label. Seen
        is in proportion to draws times weights; with the logit-adjusted loss, which spares the network
        the priors of the data, to that over pi_data to the power of tau.
    """
    own = np.ones(len(records.labels)) if record_weights is None else record_weights
    drawn = own * times
    data, seen = (class_sums(records.labels, records.num_classes, values) for values in (own, drawn))
    positive = seen * _loss_weights(balancer, records)
    rest = drawn.sum() - seen if records.multilabel else positive.sum() - positive
    return data / own.sum(), positive / (positive + rest)


# How much more than others a class counts in the loss, (K,); of several labels, having the label.
def _loss_weights(balancer: Balancer, records: Records) -> NDArray[np.float64]:
    labels, classes = records.labels, records.names
    weights = np.ones(records.num_classes)
    pos_weights = balancer.pos_weights(labels, classes)
    if pos_weights is not None:
        weights[-len(pos_weights) :] = pos_weights
    class_weights = None if records.multilabel else balancer.weights(labels, classes)
    if class_weights is not None:
        weights *= class_weights
    if isinstance(balancer.loss, LogitAdjusted):
        weights *= np.exp(-balancer.loss.tau * balancer.loss.log_priors(records.counts))
    return weights


def logit_shifts(balancer: Balancer, pi_data: NDArray[np.float64], pi_seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the shift of each class from the shares.

    Args:
        balancer: What was done in training.
        pi_data: Shares in the data, (K,).
        pi_seen: Shares as training saw them, (K,).

    Returns:
        Shifts (K,): log(pi_data / pi_seen), for `bce` of the odds; NaN where one of them is 0.
    """
    odds = balancer.loss == Bce()
    known = (pi_data > 0) & (pi_seen > 0) & ~(odds & ((pi_data == 1) | (pi_seen == 1)))
    data, seen = np.where(known, pi_data, np.nan), np.where(known, pi_seen, np.nan)
    found = np.log(data) - np.log(seen)
    return found - np.log1p(-data) + np.log1p(-seen) if odds else found
