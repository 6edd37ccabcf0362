"""Errors are found where they are, and planted wrong labels come first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, log_loss
from sklearn.model_selection import cross_val_predict

from imgcls.evaluation.errors import confused_pairs, highest_losses
from imgcls.evaluation.label_errors import label_errors
from imgcls.evaluation.predictions import Predictions


def told(labels: Any, probs: Any, classes: Any = "xyz", **options: Any) -> Predictions:
    count = len(np.asarray(probs))
    return Predictions(
        **{
            "ids": [f"{at}.png" for at in range(count)],
            "labels": labels,
            "logits": probs,
            "probs": probs,
            "fold": np.zeros(count),
            "split": "test",
            "classes": classes,
            **options,
        }
    )


@pytest.fixture(scope="module")
def planted() -> tuple[Predictions, set[str], Any]:
    """Out-of-fold probabilities of digits, of whose labels 5 % were changed to another one."""
    rng = np.random.default_rng(0)
    digits = load_digits()
    true, labels = digits.target, digits.target.copy()
    flipped = rng.choice(len(true), size=len(true) // 20, replace=False)
    labels[flipped] = (labels[flipped] + rng.integers(1, 10, size=len(flipped))) % 10
    probs = cross_val_predict(
        LogisticRegression(C=0.01, max_iter=200), digits.data / 16, labels, cv=3, method="predict_proba"
    )
    found = told(labels, probs, [str(name) for name in range(10)])
    return found, {f"{at}.png" for at in flipped}, true


def test_planted_wrong_labels_are_among_the_first(planted: tuple[Predictions, set[str], Any]) -> None:
    found, flipped, true = planted
    table = label_errors(found)
    first = table.head(len(found) // 10)
    assert len(flipped & set(first.path)) >= 0.8 * len(flipped)
    suspects = table[table.suspected]
    right = suspects[suspects.path.isin(flipped)]
    assert len(right) > 0.5 * len(suspects)
    assert (right.suggested.astype(int).to_numpy() == true[right.idx]).mean() > 0.9


def test_doubts_of_the_whole_set_are_ranked_once(planted: tuple[Predictions, set[str], Any]) -> None:
    found, _, _ = planted
    table = label_errors(found)
    assert sorted(table.path) == sorted(found.ids)
    assert list(table) == ["idx", "path", "y_true", "suggested", "y_score", "p_label", "margin", "suspected"]
    assert table.margin.is_monotonic_increasing
    pd.testing.assert_frame_equal(label_errors(found, limit=7), table.head(7))


def test_records_are_suspected_by_what_is_usual_for_each_class() -> None:
    """Class b is never promised more than 0.4, yet a record of a that has 0.4 of b speaks for b."""
    probs = [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [0.62, 0.38]]
    table = label_errors(told([0, 0, 0, 1, 1], probs, "ab", positive="b")).set_index("path")
    # usual: a = mean(0.9, 0.8, 0.6) = 0.767, b = mean(0.3, 0.38) = 0.34
    assert table[table.suspected].index.tolist() == ["2.png"]
    assert table.suggested["2.png"] == "b"
    assert table.margin["2.png"] == pytest.approx(0.2)


def test_several_predictions_of_a_record_are_one_doubt() -> None:
    twice = told([0, 0, 1], [[0.2, 0.8], [0.4, 0.6], [0.3, 0.7]], "ab", positive="b", ids=["r", "r", "s"])
    table = label_errors(twice)
    assert sorted(table.path) == ["r", "s"]
    assert table.set_index("path").p_label["r"] == pytest.approx(0.3)


def test_each_of_several_labels_may_be_doubted() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=(80, 3))
    probs = np.where(labels == 1, 0.8, 0.2) + rng.uniform(-0.1, 0.1, size=(80, 3))
    given = labels.copy()
    given[5, 1] = 1 - given[5, 1]
    table = label_errors(told(given, probs))
    assert table.path[0] == "5.png"
    assert table.suspected.sum() >= 1
    assert table.suggested[0] == ("y" if labels[5, 1] else "not y")


def test_confused_pairs_are_the_cells_beside_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    found = told(rng.integers(3, size=60), rng.dirichlet([1, 1, 1], size=60))
    table = confused_pairs(found)
    cells = confusion_matrix(found.labels, found.probs.argmax(axis=1))
    expected = {(a, b): cells[i, j] for i, a in enumerate("xyz") for j, b in enumerate("xyz") if i != j and cells[i, j]}
    assert dict(zip(zip(table.y_true, table.y_pred, strict=True), table["count"], strict=True)) == expected
    assert table["count"].is_monotonic_decreasing
    assert table.share[0] == pytest.approx(table["count"][0] / (found.labels == "xyz".index(table.y_true[0])).sum())


def test_confused_pairs_of_several_labels_name_what_was_missed_and_seen() -> None:
    found = told([[1, 0, 0], [1, 0, 0], [0, 0, 1]], [[0.1, 0.9, 0.2], [0.2, 0.1, 0.1], [0.1, 0.1, 0.9]])
    table = confused_pairs(found)
    assert sorted(zip(table.y_true, table.y_pred, strict=True)) == [("x", ""), ("x", "y")]


def test_the_highest_losses_come_first() -> None:
    rng = np.random.default_rng(0)
    found = told(rng.integers(3, size=30), rng.dirichlet([1, 1, 1], size=30))
    table = highest_losses(found, limit=5)
    assert len(table) == 5
    every = highest_losses(found, limit=99)
    assert every.loss.mean() == pytest.approx(log_loss(found.labels, found.probs))
    assert every.loss.is_monotonic_decreasing
    assert np.exp(-every.loss).to_numpy() == pytest.approx(every.y_score.to_numpy())
