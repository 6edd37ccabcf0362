from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from scipy.stats import norm

from imgcls.balancing.account import times_drawn
from imgcls.balancing.balancer import Balancer
from imgcls.balancing.base import Records
from imgcls.balancing.priors import prior_shift
from imgcls.core.errors import ConfigError
from imgcls.training.losses import loss_terms, num_outputs

#: How many records of each class (columns) look alike (rows); the best model says of a row its shares.
CELLS = np.array([[50, 2, 4], [20, 8, 1], [10, 10, 5]])
CLASSES = ("a", "b", "c")


def of(labels: Any) -> Records:
    labels = np.asarray(labels)
    num_classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    return Records(labels=labels, groups=None, num_classes=num_classes, classes=CLASSES[:num_classes])


def times_of(balancer: Balancer, records: Records, epochs: int = 1) -> NDArray[np.int64]:
    return times_drawn(
        records, (balancer.sampler.draw(records, batch_size=8, epoch=epoch, seed=0) for epoch in range(epochs))
    )


def tensor(values: NDArray[Any] | None) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(values)


def best_logits(balancer: Balancer, records: Records, cells: NDArray[np.int64], times: NDArray[Any]) -> NDArray[Any]:
    """Minimise the training loss over a table with a row of logits for each cell."""
    labels, classes = records.labels, records.classes
    outputs = num_outputs(balancer.loss, records.num_classes, multilabel=records.multilabel)
    table = torch.zeros(len(np.unique(cells)), outputs, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [table], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        losses, weights = loss_terms(
            table[cells],
            torch.from_numpy(labels),
            loss=balancer.loss,
            class_weights=tensor(balancer.weights(labels, classes)),
            record_weights=torch.from_numpy(times),
            log_priors=tensor(balancer.log_priors(labels, classes)),
            pos_weight=tensor(balancer.pos_weights(labels, classes)),
        )
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return table.detach().numpy()


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "oversample"},
        {"sampler": {"name": "weighted", "weights": {"a": 1, "b": 5, "c": 2}}},
        {"class_weights": "inverse"},
        {"class_weights": "effective", "beta": 0.97},
        {"class_weights": {"a": 0.1, "b": 0.2, "c": 0.7}},
        {"loss": "logit-adjusted"},
        {"loss": {"name": "logit-adjusted", "tau": 0.6}},
        {"sampler": "oversample", "class_weights": "inverse", "loss": "logit-adjusted", "allow_stacking": True},
    ],
)
def test_the_best_model_of_shifted_priors_gets_the_posterior_of_the_data(options: dict[str, Any]) -> None:
    balancer = Balancer(**options, correct_priors=True)
    cells, labels = (np.repeat(index.ravel(), CELLS.ravel()) for index in np.indices(CELLS.shape))
    records = of(labels)
    drawn = np.bincount(labels, weights=times_of(balancer, records))  # the rest of chance: the mean of each class
    times = (drawn / np.bincount(labels))[labels]
    logits = best_logits(balancer, records, cells, times)
    shift = prior_shift(balancer, records, times.astype(np.float64))
    expected = CELLS / CELLS.sum(axis=1, keepdims=True)
    assert np.abs(softmax(logits, axis=1) - expected).max() > 0.1
    np.testing.assert_allclose(softmax(logits + shift, axis=1), expected, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"pos_weight": 0.2},
        {"pos_weight": "inverse"},
        {"class_weights": "inverse"},
        {"sampler": "oversample"},
        {"sampler": "oversample", "pos_weight": 0.2, "allow_stacking": True},
    ],
)
def test_one_logit_is_shifted_to_the_odds_of_the_data(options: dict[str, Any]) -> None:
    balancer = Balancer(**options, loss="bce", correct_priors=True)
    counts = np.array([[30, 2], [8, 3], [2, 5]])  # 40 and 10, so that each record is drawn equally often
    cells, labels = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    records = of(labels)
    times = times_of(balancer, records)
    logits = best_logits(balancer, records, cells, times)
    shift = prior_shift(balancer, records, times)
    assert shift.shape == (1,)
    np.testing.assert_allclose(expit(logits + shift)[:, 0], counts[:, 1] / counts.sum(axis=1), atol=1e-5)


def test_each_of_several_labels_is_shifted_alone() -> None:
    balancer = Balancer(loss="bce", pos_weight="inverse", correct_priors=True)
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]])
    cells = np.array([0, 0, 0, 1, 1, 1])
    times = np.ones(6, dtype=np.int64)
    logits = best_logits(balancer, of(labels), cells, times)
    shares = np.stack([labels[cells == cell].mean(axis=0) for cell in (0, 1)])
    inner = (shares > 0) & (shares < 1)
    found = expit(logits + prior_shift(balancer, of(labels), times))
    np.testing.assert_allclose(found[inner], shares[inner], atol=1e-5)


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
def test_two_gaussians_trained_half_and_half_get_their_posterior_back(loss: str) -> None:
    records = of(np.repeat([0, 1], [90, 10]))
    balancer = Balancer(sampler="oversample", loss=loss, correct_priors=True)
    shift = prior_shift(balancer, records, times_of(balancer, records, epochs=3))
    x = np.linspace(-4, 4, 17)
    densities = np.stack([norm.pdf(x, -1), norm.pdf(x, 1)], axis=1)
    posterior = densities * [0.9, 0.1] / (densities * [0.9, 0.1]).sum(axis=1, keepdims=True)
    found = expit(2 * x + shift) if loss == "bce" else softmax(np.log(densities * 0.5) + shift, axis=1)[:, 1]
    np.testing.assert_allclose(found, posterior[:, 1], rtol=1e-12)


def test_uniform_draws_shift_nothing() -> None:
    records = of([0, 0, 0, 1, 2])
    for weights in (None, np.array([1.0, 2.0, 0.5, 1.0, 3.0])):
        shift = prior_shift(Balancer(), records, np.full(5, 7), record_weights=weights)
        np.testing.assert_allclose(shift, 0, atol=1e-12)


@pytest.mark.parametrize("loss", ["cross-entropy", "logit-adjusted"])
def test_classes_that_are_absent_or_never_drawn_get_finite_shifts_of_nothing(loss: str) -> None:
    records = Records(labels=np.array([0, 0, 0, 1, 3]), groups=None, num_classes=4, classes=(*CLASSES, "d"))
    shift = prior_shift(Balancer(loss=loss), records, np.array([1, 1, 1, 3, 0]))
    assert np.isfinite(shift).all()
    assert shift[2:].tolist() == [0, 0]


@pytest.mark.parametrize("loss", ["focal", "label-smoothing"])
def test_losses_without_posterior_are_refused(loss: str) -> None:
    with pytest.raises(ConfigError, match=f"to correct priors, got '{loss}'"):
        prior_shift(Balancer(loss=loss), of([0, 1]), np.array([1, 1]))
