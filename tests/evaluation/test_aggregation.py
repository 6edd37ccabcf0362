"""Groups are predicted from their images."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest

from imgcls.core.errors import ConfigError, DataError
from imgcls.evaluation.aggregation import AGGREGATIONS, aggregate
from imgcls.evaluation.predictions import Predictions, probabilities


def two(**changes: Any) -> Predictions:
    scores = np.array([0.2, 0.6, 0.9, 0.1, 0.3])
    values: dict[str, Any] = {
        "ids": list("abcde"),
        "labels": [0, 1, 1, 0, 0],
        "logits": np.log(scores / (1 - scores))[:, None],
        "probs": np.stack([1 - scores, scores], axis=1),
        "groups": ["p", "p", "q", "r", "r"],
        "fold": np.zeros(5),
        "split": "test",
        "classes": ("no", "yes"),
        "positive": "yes",
        "columns": {"site": ["s", "s", "t", "t", "t"], "view": list("lrllr")},
    }
    return Predictions(**values | changes)


@pytest.mark.parametrize(
    ("how", "expected"), [("mean", [0.4, 0.9, 0.2]), ("max", [0.6, 0.9, 0.3]), ("noisy-or", [0.68, 0.9, 0.37])]
)
def test_scores_of_groups_are_those_that_the_rule_says(how: Any, expected: list[float]) -> None:
    found = aggregate(two(), how)
    assert found.ids.tolist() == ["p", "q", "r"]
    assert found.labels.tolist() == [1, 1, 0]  # positive if one image is
    assert found.scores.tolist() == pytest.approx(expected)
    np.testing.assert_allclose(probabilities(found.logits), found.probs, rtol=1e-6)


def test_columns_that_are_the_same_in_each_group_stay() -> None:
    assert {name: values.tolist() for name, values in aggregate(two()).columns.items()} == {"site": ["s", "t", "t"]}


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_the_other_class_may_be_positive(how: Any) -> None:
    turned = two(classes=("yes", "no"), labels=1 - two().labels, probs=two().probs[:, ::-1], logits=-two().logits)
    np.testing.assert_allclose(aggregate(turned, how).scores, aggregate(two(), how).scores)


def test_each_fold_speaks_for_itself() -> None:
    both = Predictions.concat([two(), two(fold=np.ones(5))])
    assert sorted(aggregate(both).ids.tolist()) == ["p", "p", "q", "q", "r", "r"]


def test_a_group_has_each_label_that_an_image_has() -> None:
    labels, probs = np.array([[1, 0], [0, 0], [0, 1], [0, 0], [0, 0]]), np.linspace(0.1, 1, 10).reshape(5, 2)
    several = two(labels=labels, probs=probs, logits=np.zeros((5, 2)), positive=None)
    found = aggregate(several, "max")
    assert found.labels.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert found.probs.tolist() == pytest.approx(np.array([probs[1], probs[2], probs[4]]))


def test_a_certain_image_makes_its_group_certain() -> None:
    sure = two(probs=[[0.0, 1.0]] + [[0.5, 0.5]] * 4)
    assert aggregate(sure, "noisy-or").scores[0] == 1


def test_what_cannot_be_aggregated_is_refused() -> None:
    many = two(classes=tuple("xyz"), positive=None, probs=np.full((5, 3), 1 / 3), logits=np.zeros((5, 3)))
    with pytest.raises(DataError, match=r"'labels' must be the same within a group .* got several in 'p'"):
        aggregate(many)
    with pytest.raises(ConfigError, match="'aggregation' must be 'mean' with 3 classes"):
        aggregate(attrs.evolve(many, labels=[0, 0, 1, 2, 2]), "max")
    with pytest.raises(DataError, match="'predictions' must have groups to be aggregated, got none"):
        aggregate(two(groups=None))
    with pytest.raises(ConfigError, match="'aggregation' must be 'mean', 'max' or 'noisy-or', got 'median'"):
        aggregate(two(), "median")  # type: ignore[arg-type]
