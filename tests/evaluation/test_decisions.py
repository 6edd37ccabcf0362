"""Decisions follow the thresholds; the worst errors come first."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from sklearn.metrics import confusion_matrix

from imgcls.evaluation.decisions import confusion, decisions, hard_errors
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.thresholds import Threshold


def told(labels: Any, probs: Any, *, fold: Any = 0, positive: str | None = None) -> Predictions:
    return Predictions(
        ids=[f"{at}.png" for at in range(len(probs))],
        labels=labels,
        logits=probs,
        probs=probs,
        fold=np.broadcast_to(fold, len(probs)),
        split="test",
        classes=("no", "yes") if positive else ("x", "y", "z"),
        positive=positive,
    )


def binary(labels: Any, scores: Any, *, fold: Any = 0, positive: str = "yes") -> Predictions:
    columns = [1 - np.asarray(scores), np.asarray(scores)]
    return told(labels, np.stack(columns if positive == "yes" else columns[::-1], axis=1), fold=fold, positive=positive)


def cut(model: str, value: float) -> Threshold:
    return Threshold(rule="max_f1", value=value, model=model, num_records=9, num_positives=9)


def test_a_score_at_the_threshold_is_positive() -> None:
    predictions = binary([0, 1, 1], [0.1, 0.3, 0.2])
    assert decisions(predictions, [cut("0", 0.3)], "max_f1").tolist() == [0, 1, 0]
    assert decisions(predictions, rule=0.2).tolist() == [0, 1, 1]
    assert decisions(predictions).tolist() == [0, 0, 0]


def test_the_positive_class_may_be_the_first() -> None:
    predictions = binary([0, 1], [0.3, 0.2], positive="no")
    assert decisions(predictions, rule=0.3).tolist() == [0, 1]
    assert confusion(predictions, rule=0.3).tolist() == [[1, 0], [0, 1]]
    assert confusion(binary([0, 0, 1], [0.9, 0.1, 0.1], positive="no"), rule=0.5).tolist() == [[1, 0], [1, 1]]


def test_folds_are_held_against_their_own_thresholds() -> None:
    predictions = binary([1, 1], [0.5, 0.5], fold=[0, 1])
    assert decisions(predictions, [cut("0", 0.4), cut("1", 0.6)], "max_f1").tolist() == [1, 0]


def test_confusion_is_tn_fp_fn_tp() -> None:
    predictions = binary([0, 0, 0, 1, 1, 1, 1], [0.9, 0.1, 0.2, 0.3, 0.8, 0.7, 0.6])
    assert confusion(predictions, rule=0.5).tolist() == [[2, 1], [1, 3]]


def test_confusion_of_many_classes_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    predictions = told(rng.integers(3, size=50), rng.dirichlet([1, 1, 1], size=50))
    expected = confusion_matrix(predictions.labels, predictions.probs.argmax(axis=1))
    assert np.array_equal(confusion(predictions), expected)


def test_hard_errors_of_two_classes_rank_false_positives_then_false_negatives() -> None:
    predictions = binary([0, 0, 0, 1, 1, 1], [0.7, 0.9, 0.1, 0.4, 0.2, 0.8])
    errors = hard_errors(predictions, [cut("0", 0.5)], "max_f1")
    assert list(errors) == ["idx", "error_type", "threshold", "path", "y_true", "y_score", "y_pred"]
    assert errors.error_type.tolist() == ["FP", "FP", "FN", "FN"]
    assert errors.idx.tolist() == [1, 0, 4, 3]
    assert errors.path.tolist() == ["1.png", "0.png", "4.png", "3.png"]
    assert errors.y_score.tolist() == [0.9, 0.7, 0.2, 0.4]
    assert errors.y_pred.tolist() == ["yes", "yes", "no", "no"]
    assert set(errors.threshold) == {0.5}


def test_the_limit_is_per_error_type() -> None:
    errors = hard_errors(binary([0, 0, 1, 1], [0.9, 0.8, 0.1, 0.2]), rule=0.5, limit=1)
    assert errors.idx.tolist() == [0, 2]


def test_hard_errors_of_many_classes_rank_by_the_wrong_class() -> None:
    probs = [[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9], [0.2, 0.1, 0.7]]
    errors = hard_errors(told([1, 0, 2, 0], probs))
    assert errors.error_type.tolist() == ["x -> y", "x -> z", "y -> x"]
    assert errors.y_score.tolist() == [0.8, 0.7, 0.6]
    assert errors.threshold.isna().all()


def test_no_errors_give_an_empty_table() -> None:
    errors = hard_errors(binary([0, 1], [0.1, 0.9]), rule=0.5)
    assert errors.empty
    assert len(errors.columns) == 7


def test_a_record_of_several_repeats_is_listed_once_by_its_worst_error() -> None:
    predictions = attrs.evolve(binary([1, 1, 1, 0], [0.3, 0.1, 0.2, 0.9]), ids=["a", "a", "b", "c"])
    assert hard_errors(predictions, rule=0.5).idx.tolist() == [3, 1, 2]
    assert hard_errors(predictions).idx.tolist() == [3, 1, 2]
