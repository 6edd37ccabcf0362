from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from imgcls.balancing.balancer import Balancer
from imgcls.balancing.losses import Focal, LabelSmoothing, LogitAdjusted
from imgcls.core.errors import ConfigError
from imgcls.training.losses import loss_terms, num_outputs, training_loss

LABELS = torch.tensor([0, 1, 1, 0, 1])
WEIGHTS = torch.tensor([0.5, 1.5])


def logits(outputs: int) -> torch.Tensor:
    return torch.randn(5, outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_hand(probs: np.ndarray[tuple[int, int], np.dtype[np.float64]], weights: torch.Tensor | None) -> float:
    losses = -np.log(probs[np.arange(5), LABELS])
    return float(np.average(losses, weights=None if weights is None else weights.numpy()[LABELS]))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_the_weighted_mean_of_minus_log_probability(weights: torch.Tensor | None) -> None:
    powers = np.exp(logits(2).numpy())
    expected = by_hand(powers / powers.sum(axis=1, keepdims=True), weights)
    given = None if weights is None else weights.double()
    found = training_loss(logits(2), LABELS, loss="cross-entropy", weights=given)
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_bce_is_the_weighted_mean_of_minus_log_probability(weights: torch.Tensor | None) -> None:
    one = 1 / (1 + np.exp(-logits(1).numpy()))
    found = training_loss(logits(1), LABELS, loss="bce", weights=weights)
    assert found.item() == pytest.approx(by_hand(np.hstack([1 - one, one]), weights))


def test_bce_equals_cross_entropy_of_the_difference_of_two_logits() -> None:
    two = logits(2)
    one = two[:, 1:] - two[:, :1]
    both = [training_loss(two, LABELS, loss="cross-entropy", weights=WEIGHTS.double())]
    both += [training_loss(one, LABELS, loss="bce", weights=WEIGHTS.double())]
    torch.testing.assert_close(*both)


def test_bce_of_a_huge_logit_stays_finite() -> None:
    loss = training_loss(torch.tensor([[1e4], [-1e4]]), torch.tensor([0, 0]), loss="bce", weights=None)
    assert loss.item() == pytest.approx(5e3)


def test_bce_wants_one_logit_and_cross_entropy_one_a_class() -> None:
    assert num_outputs("bce", 2) == 1
    assert num_outputs("cross-entropy", 5) == 5
    assert num_outputs("bce", 2, multilabel=True) == 2
    with pytest.raises(ConfigError, match="'loss' must be 'bce' where records have several labels, got 'focal'"):
        num_outputs("focal", 2, multilabel=True)


@pytest.mark.parametrize(("loss", "outputs"), [("cross-entropy", 2), ("bce", 1)])
@pytest.mark.parametrize("weights", [None, WEIGHTS.double()])
def test_a_record_of_weight_two_counts_as_two_records(loss: str, outputs: int, weights: torch.Tensor | None) -> None:
    values, twice = logits(outputs), torch.tensor([0, 1, 1, 2, 3, 3, 4])
    own = torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0])
    repeated = training_loss(values[twice], LABELS[twice], loss=loss, weights=weights)
    weighted = training_loss(values, LABELS, loss=loss, weights=weights, record_weights=own)
    torch.testing.assert_close(weighted, repeated)


def test_a_batch_of_weight_zero_has_no_loss() -> None:
    found = training_loss(logits(2), LABELS, loss="cross-entropy", weights=None, record_weights=torch.zeros(5))
    assert found.item() == 0


# More than two classes: the references are torch and the formulas

THREE = torch.tensor([0, 2, 1, 1, 2])
PRIORS = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
SOFT = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0], [0.2, 0.8, 0.0], [0.5, 0.25, 0.25], [0.0, 0.1, 0.9]]).double()
LOSSES = ["cross-entropy", "focal", "logit-adjusted", "label-smoothing"]


def test_weighted_cross_entropy_equals_that_of_torch() -> None:
    weights = torch.tensor([0.2, 1.0, 3.0]).double()
    found = training_loss(logits(3), THREE, loss="cross-entropy", weights=weights)
    torch.testing.assert_close(found, functional.cross_entropy(logits(3), THREE, weight=weights))


@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_label_smoothing_equals_that_of_torch(epsilon: float) -> None:
    expected = functional.cross_entropy(logits(3), THREE, label_smoothing=epsilon)
    torch.testing.assert_close(training_loss(logits(3), THREE, loss=LabelSmoothing(epsilon=epsilon)), expected)


def test_focal_loss_is_the_formula() -> None:
    own = torch.softmax(logits(3), dim=1)[range(5), THREE]
    expected = -((1 - own) ** 1.5) * own.log()
    losses, _ = loss_terms(logits(3), THREE, loss=Focal(gamma=1.5))
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_the_slope_of_a_focal_loss_is_finite_where_a_record_is_certain(gamma: float) -> None:
    values = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    training_loss(values, torch.tensor([0, 0]), loss=Focal(gamma=gamma)).backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad[0].tolist() == [0, 0]
    torch.testing.assert_close(values.grad[1], torch.tensor([-0.5, 0.5]))


def test_logit_adjustment_adds_priors_before_the_softmax() -> None:
    expected = functional.cross_entropy(logits(3) + 0.5 * PRIORS, THREE)
    torch.testing.assert_close(
        training_loss(logits(3), THREE, loss=LogitAdjusted(tau=0.5), log_priors=PRIORS), expected
    )


def test_soft_targets_equal_those_of_torch() -> None:
    found = training_loss(logits(3), SOFT, loss="cross-entropy")
    torch.testing.assert_close(found, functional.cross_entropy(logits(3), SOFT))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_soft_target_of_one_class_is_that_class(loss: str) -> None:
    weights = torch.tensor([0.2, 1.0, 3.0]).double()
    both = [
        training_loss(logits(3), targets, loss=loss, weights=weights, log_priors=PRIORS)
        for targets in (THREE, functional.one_hot(THREE, 3).double())
    ]
    torch.testing.assert_close(*both)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_mixed_target_has_the_mixed_loss_and_weight(loss: str) -> None:
    options: dict[str, Any] = {"loss": loss, "class_weights": torch.tensor([0.2, 1.0, 3.0]), "log_priors": PRIORS}
    losses, weights = loss_terms(logits(3), SOFT, **options)
    each = [loss_terms(logits(3), torch.full((5,), number), **options) for number in range(3)]
    torch.testing.assert_close(losses, sum(SOFT[:, k] * each[k][0] for k in range(3)))
    torch.testing.assert_close(weights, sum(SOFT[:, k] * each[k][1] for k in range(3)))


@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_a_batch_with_one_denominator_are_the_batch(loss: str) -> None:
    options: dict[str, Any] = {"loss": loss, "record_weights": torch.tensor([1.0, 2.0, 0.0, 1.0, 3.0])}
    whole = training_loss(logits(3), THREE, log_priors=PRIORS, **options)
    losses, weights = loss_terms(logits(3), THREE, log_priors=PRIORS, **options)
    parts = [(losses[part] * weights[part]).sum() / weights.sum() for part in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(parts[0] + parts[1], whole)


@pytest.mark.parametrize("scale", [1.0, 3.0, 17.0])
def test_weights_that_sum_to_one_to_the_classes_or_to_nothing_give_the_same_loss(scale: float) -> None:
    given = np.array([0.1, 0.3, 0.6]) * scale
    weights = Balancer(class_weights=dict(zip("abc", given, strict=True))).weights(THREE.numpy(), ("a", "b", "c"))
    assert weights is not None
    found = training_loss(logits(3), THREE, loss="cross-entropy", weights=torch.from_numpy(weights))
    expected = functional.cross_entropy(logits(3), THREE, weight=torch.tensor([0.1, 0.3, 0.6]).double())
    torch.testing.assert_close(found, expected)


def test_half_precision_logits_have_their_loss_in_full() -> None:
    half = logits(3).bfloat16()
    found = training_loss(half, THREE, loss="cross-entropy")
    torch.testing.assert_close(found, functional.cross_entropy(half.float(), THREE))


# Binary cross-entropy


@pytest.mark.parametrize("pos_weight", [None, 0.2, torch.tensor([5.0])])
def test_bce_with_the_weight_of_positives_equals_that_of_torch(pos_weight: Any) -> None:
    factor = None if pos_weight is None else torch.as_tensor(pos_weight).double()
    expected = functional.binary_cross_entropy_with_logits(logits(1)[:, 0], LABELS.double(), pos_weight=factor)
    torch.testing.assert_close(training_loss(logits(1), LABELS, loss="bce", pos_weight=pos_weight), expected)


def test_bce_takes_soft_targets_of_class_one_or_of_both_classes() -> None:
    share = torch.tensor([0.0, 0.3, 1.0, 0.5, 0.9]).double()
    both = torch.stack([1 - share, share], dim=1)
    terms = [loss_terms(logits(1), targets, loss="bce", class_weights=WEIGHTS) for targets in (share, both)]
    torch.testing.assert_close(*terms)
    expected = functional.binary_cross_entropy_with_logits(logits(1)[:, 0], share, reduction="none")
    torch.testing.assert_close(terms[0], (expected, 0.5 + share))


def test_bce_of_several_labels_equals_that_of_torch() -> None:
    targets = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]])
    positive = torch.tensor([2.0, 0.5, 1.0]).double()
    expected = functional.binary_cross_entropy_with_logits(logits(3), targets.double(), pos_weight=positive)
    torch.testing.assert_close(training_loss(logits(3), targets, loss="bce", pos_weight=positive), expected)


def test_class_weights_of_several_labels_weigh_the_labels() -> None:
    targets = torch.tensor([[1, 0], [0, 0], [1, 1], [0, 1], [0, 0]])
    each = functional.binary_cross_entropy_with_logits(logits(2), targets.double(), reduction="none")
    found = training_loss(logits(2), targets, loss="bce", weights=WEIGHTS)
    torch.testing.assert_close(found, (each @ torch.tensor([0.25, 0.75]).double()).mean())
