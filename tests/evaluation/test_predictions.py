"""What goes into predictions comes out again, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgcls.core.errors import DataError, RunError
from imgcls.evaluation.predictions import Predictions, probabilities, softmax


def made(**changes: Any) -> Predictions:
    values: dict[str, Any] = {
        "ids": ["a.png", "b.png", "c.png"],
        "labels": [0, 1, 1],
        "logits": [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]],
        "groups": ["p1", "p1", "p2"],
        "fold": [0, 0, 1],
        "split": "val",
        "classes": ["no", "yes"],
        "positive": "yes",
    }
    values |= changes
    return Predictions(**{"probs": softmax(values["logits"]), **values})


def of_three_classes() -> Predictions:
    logits = [[3.0, 1.0, 0.0]]
    return Predictions(
        ids=["a"], labels=[2], logits=logits, probs=softmax(logits), fold=[0], split="test", classes=("x", "y", "z")
    )


def test_scores_are_of_the_positive_class() -> None:
    assert np.array_equal(made().scores, made().probs[:, 1])
    assert np.array_equal(made(positive="no").scores, made().probs[:, 0])


def test_scores_of_three_classes_are_refused() -> None:
    assert of_three_classes().positive_index is None
    with pytest.raises(DataError, match="'scores' must be asked of two classes, got 3"):
        _ = of_three_classes().scores


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"labels": [0, 1]}, r"'labels' must have the shape \(3,\), got \(2,\)"),
        ({"probs": [[0.5, 0.5]]}, r"'probs' must have the shape \(3, 2\), got \(1, 2\)"),
        (
            {"logits": np.zeros((3, 3)), "probs": [[0.5, 0.5]] * 3},
            r"'logits' must have the shape \(3, 1\) or \(3, 2\), got \(3, 3\)",
        ),
        ({"groups": ["p"]}, "'groups' must have the shape"),
        ({"labels": [0, 1, 2]}, "'labels' must be from 0 to 1, got 2 for 'c.png'"),
        ({"probs": [[0.5, 0.5], [np.nan, 0.5], [1, 0]]}, r"'probs' must be finite, got \[nan, 0.5\] for 'b.png'"),
        ({"probs": [[0.5, 0.5], [0.5, 0.4], [1, 0]]}, "'probs' must sum to one in each row, got .* for 'b.png'"),
        ({"probs": [[0.5, 0.5], [1.5, -0.5], [1, 0]]}, "'probs' must be from 0 to 1"),
        ({"positive": None}, "'positive' must be given with two classes and only then, got None"),
        ({"positive": "yess"}, "'positive' must be one of the classes, got 'yess'; did you mean 'yes'?"),
        ({"classes": ["no"], "logits": np.zeros((3, 1)), "labels": [0, 0, 0]}, "'classes' must be at least two names"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        made(**changes)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(DataError, match="'ids' must name at least one record"):
        made().take([])


def test_take_accepts_masks_and_positions() -> None:
    by_mask, by_position = made().take(np.array([True, False, True])), made().take([2, 0])
    assert by_mask.ids.tolist() == ["a.png", "c.png"]
    assert by_position.groups is not None
    assert (by_position.ids.tolist(), by_position.groups.tolist()) == (["c.png", "a.png"], ["p2", "p1"])


def test_concat_undoes_take() -> None:
    parts = [made().take([0, 1]), made().take([2])]
    assert Predictions.concat(parts).frame().equals(made().frame())


def test_concat_refuses_other_classes_and_nothing() -> None:
    with pytest.raises(DataError, match=r"'parts' must have the same classes, got \('no', 'yes'\) and \('n', 'yes'\)"):
        Predictions.concat([made(), made(classes=["n", "yes"])])
    with pytest.raises(DataError, match="'parts' must be at least one"):
        Predictions.concat([])


@pytest.mark.parametrize("width", [1, 2])
def test_logits_of_the_mean_of_folds_give_its_probabilities(width: int) -> None:
    parts = [made(logits=logits[:, -width:], probs=softmax(logits)) for logits in (np.eye(3, 2), -np.eye(3, 2))]
    mean = Predictions.mean_of_folds(parts)
    assert np.allclose(mean.probs, (parts[0].probs + parts[1].probs) / 2, atol=1e-15)
    assert np.allclose(probabilities(mean.logits), mean.probs, atol=1e-6)
    assert mean.logits.shape == (3, width)
    assert set(mean.fold) == {-1}


def test_mean_of_folds_needs_the_same_records() -> None:
    with pytest.raises(DataError, match="'parts' must have the same ids and labels in the same order"):
        Predictions.mean_of_folds([made(), made().take([1, 0, 2])])


def test_the_mean_of_repeats_counts_each_record_once() -> None:
    first, second = made(), made(logits=[[0.0, 3.0]] * 3, fold=[2, 2, 2]).take([2, 0])
    mean = Predictions.concat([first, second]).mean_of_repeats()
    assert mean.ids.tolist() == ["a.png", "b.png", "c.png"]
    assert mean.labels.tolist() == [0, 1, 1]
    assert np.array_equal(mean.probs[1], first.probs[1])
    assert np.allclose(mean.probs[[2, 0]], (first.probs[[2, 0]] + second.probs) / 2, atol=1e-15)
    assert np.allclose(probabilities(mean.logits), mean.probs, atol=1e-6)
    assert set(mean.fold) == {-1}


def test_repeats_of_a_record_with_other_labels_are_refused() -> None:
    with pytest.raises(DataError, match="wherever a record repeats, got several for 'b"):
        Predictions.concat([made(), made(labels=[0, 0, 1])]).mean_of_repeats()


@pytest.mark.parametrize("predictions", [made(), made(groups=None), of_three_classes()])
def test_saved_predictions_load_again(predictions: Predictions, tmp_path: Path) -> None:
    predictions.save(tmp_path / "p.npz")
    loaded = Predictions.load(tmp_path / "p.npz")
    for field in attrs.fields(Predictions):
        ours, theirs = getattr(predictions, field.name), getattr(loaded, field.name)
        assert np.array_equal(ours, theirs)
        assert getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"'path' must name an existing file, got '.*none\.npz'"):
        Predictions.load(tmp_path / "none.npz")
    made().save(tmp_path / "p.npz")
    half = (tmp_path / "p.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(half[: len(half) // 2])
    with pytest.raises(RunError, match=r"'path' must name saved predictions, got '.*half\.npz'; it is damaged"):
        Predictions.load(tmp_path / "half.npz")


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", ids=np.array([{}], dtype=object))
    with pytest.raises(RunError, match="allow_pickle=False"):
        Predictions.load(tmp_path / "evil.npz")


def test_the_frame_names_labels_and_probabilities() -> None:
    frame = made().frame()
    assert list(frame) == ["id", "label", "group", "fold", "repeat", "split", "prob_no", "prob_yes"]
    assert frame.label.tolist() == ["no", "yes", "yes"]
    assert made(groups=None).frame().group.tolist() == ["", "", ""]


def test_one_logit_speaks_for_the_second_class() -> None:
    assert np.allclose(probabilities([[np.log(3)]]), [[0.25, 0.75]])


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=5))
@settings(deadline=None)
def test_probabilities_of_any_logits_sum_to_one(row: list[float]) -> None:
    assert np.isclose(probabilities([row]).sum(), 1)


@given(st.floats(-50, 50))
@settings(deadline=None)
def test_one_logit_equals_two_with_a_zero(logit: float) -> None:
    assert np.array_equal(probabilities([[logit]]), softmax([[0.0, logit]]))
