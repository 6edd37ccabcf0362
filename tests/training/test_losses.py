import numpy as np
import pytest
import torch

from imgcls.training.losses import num_outputs, training_loss

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
