"""What is reached without a model is told beside it, judged on the same records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from imgcls.data.dataset import Dataset
from imgcls.evaluation.baselines import COLUMNS, Known, baselines, judged_once, warnings_of
from imgcls.evaluation.looks import file_names, looks
from imgcls.evaluation.predictions import Predictions, probabilities

COUNT = 240


def told(
    rng: np.random.Generator, labels: Any, *, signal: float = 2.0, fold: Any = None, **options: Any
) -> Predictions:
    logits = signal * (2 * labels - 1)[:, None] + rng.normal(0, 2, size=(len(labels), 1))
    return Predictions(
        **{
            "ids": [f"{at:03d}" for at in range(len(labels))],
            "labels": labels,
            "logits": logits,
            "probs": probabilities(logits),
            "groups": np.arange(len(labels)) // 2,
            "fold": np.arange(len(labels)) // 2 % 2 if fold is None else fold,
            "split": "test",
            "classes": ("no", "yes"),
            "positive": "yes",
            **options,
        }
    )


def study(*, shortcut: float = 0.0, signal: float = 2.0) -> tuple[Predictions, list[Any], Known]:
    """Two folds; of each record's looks the first number says its class as far as there is a shortcut."""
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(2, size=COUNT // 2), 2)
    facts = rng.normal(size=(COUNT, 4))
    facts[:, 0] += shortcut * labels
    names = [f"{'ab'[label] if shortcut else 'c'}{at:03d}.png" for at, label in enumerate(labels)]
    ids = [f"{at:03d}" for at in range(COUNT)]
    known = Known(ids=np.array(ids), labels=labels, looks=facts, names=np.array(names))
    trained = [np.flatnonzero(np.arange(COUNT) // 2 % 2 != fold) for fold in (0, 1)]
    return told(rng, labels, signal=signal), trained, known


def area(table: Any, name: str, column: str = "value", metric: str = "roc_auc") -> float:
    (value,) = table[(table.baseline == name) & (table.metric == metric)][column]
    return float(value)


def test_a_baseline_is_a_logistic_regression_on_what_its_fold_trained_on() -> None:
    model, trained, known = study(shortcut=1.0)
    table = baselines(model, trained, known=known, resamples=50)
    scores = np.zeros(COUNT)
    assert known.looks is not None
    for fold, train in enumerate(trained):
        here = model.fold == fold
        scaler = StandardScaler().fit(known.looks[train])
        fitted = LogisticRegression(C=0.1).fit(scaler.transform(known.looks[train]), known.labels[train])
        scores[here] = fitted.predict_proba(scaler.transform(known.looks[here]))[:, 1]
    assert area(table, "looks") == pytest.approx(roc_auc_score(known.labels, scores))
    expected = average_precision_score(known.labels, scores)
    assert area(table, "looks", metric="average_precision") == pytest.approx(expected)
    assert area(table, "looks", "model") == pytest.approx(roc_auc_score(model.labels, model.scores))
    assert tuple(table) == COLUMNS


def test_differences_come_from_the_same_resamples() -> None:
    model, trained, known = study()
    own = attrs.evolve(known, looks=np.stack([model.logits[:, 0]] * 2, axis=1).astype(np.float64))
    table = baselines(model, trained, known=own, resamples=200)
    spread = area(table, "looks", "high") - area(table, "looks", "low")
    paired = area(table, "looks", "difference_high") - area(table, "looks", "difference_low")
    assert paired < spread / 3


def test_a_shortcut_is_an_alarm_and_its_absence_is_none() -> None:
    model, trained, known = study(shortcut=2.0)
    lines = warnings_of(baselines(model, trained, known=known))
    assert any(line.startswith("Size, brightness and border of the images alone reach") for line in lines)
    assert any(
        line.startswith("The names of the files alone reach an area under the ROC curve of 1.000") for line in lines
    )
    assert warnings_of(baselines(*study()[:2], known=study()[2])) == []


def test_a_model_no_better_than_chance_is_told_so() -> None:
    model, trained, known = study(signal=0.0)
    (line,) = warnings_of(baselines(model, trained, known=known))
    assert "does not clearly beat 'class prior'" in line
    assert "'permuted labels'" in line


def test_permuted_labels_say_what_chance_reaches() -> None:
    model, trained, known = study(shortcut=2.0)
    table = baselines(model, trained, known=known, resamples=10)
    assert area(table, "permuted labels", "low") < 0.5 < area(table, "permuted labels", "high")
    assert area(table, "looks") > area(table, "permuted labels", "high")


def test_the_class_prior_knows_nothing() -> None:
    model, trained, known = study()
    fixed = attrs.evolve(model, fold=np.full(COUNT, -1), repeat=np.full(COUNT, -1))
    table = baselines(fixed, trained, known=known, resamples=10)
    assert area(table, "class prior") == 0.5
    assert area(table, "class prior", metric="average_precision") == pytest.approx(known.labels.mean())


def test_another_test_set_is_judged_by_the_mean_of_the_folds() -> None:
    _, trained, known = study(shortcut=2.0)
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=50)
    facts = rng.normal(size=(50, 4)) + 2.0 * labels[:, None] * [1, 0, 0, 0]
    tested = Known(ids=np.array([f"{at:03d}" for at in range(50)]), labels=labels, looks=facts)
    judged = told(rng, labels, fold=np.full(50, -1))
    table = baselines(judged, trained, known=known, tested=tested, resamples=20)
    assert area(table, "looks") > 0.85
    assert set(table.baseline) == {"class prior", "looks", "permuted labels"}


@pytest.mark.parametrize("several", [False, True])
def test_more_classes_and_several_labels_have_baselines(several: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=(90, 3)) if several else rng.integers(3, size=90)
    features = rng.normal(size=(90, 5)) + (labels if several else np.eye(3)[labels]) @ rng.normal(size=(3, 5))
    logits = rng.normal(size=(90, 3))
    probs = probabilities(logits, multilabel=several)
    kind: dict[str, Any] = {"logits": logits, "probs": probs, "classes": "xyz", "positive": None}
    model = attrs.evolve(told(rng, np.zeros(90, dtype=int)), labels=labels, **kind)
    known = Known(ids=model.ids, labels=labels, features=features)
    trained = [np.flatnonzero(model.fold != fold) for fold in (0, 1)]
    table = baselines(model, trained, known=known, resamples=20)
    assert set(table.baseline) == {"class prior", "linear probe", "permuted labels"}
    assert set(table.metric) == {"roc_auc", "average_precision" if several else "accuracy"}
    assert area(table, "linear probe") > 0.6
    assert table[["value", "model", "difference"]].notna().all().all()


def test_a_class_that_no_fold_trained_on_is_given_its_share() -> None:
    model, trained, known = study()
    table = baselines(model, [np.flatnonzero(known.labels == 0)] * 2, known=known, resamples=10)
    assert area(table, "looks") == 0.5
    assert len(trained) == 2


def test_names_have_no_folders() -> None:
    data = Dataset.from_arrays(np.zeros((4, 8, 8), np.uint8), ["a", "b", "a", "b"])
    assert file_names(data) is None


def test_names_are_those_inside_the_class_folder(tmp_path: Path) -> None:
    for name in ("dogs/x.png", "cats/y.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name)
    found = file_names(Dataset.from_folder(tmp_path))
    assert found is not None
    assert sorted(found.tolist()) == ["x.png", "y.png"]


def test_looks_are_size_brightness_and_border(tmp_path: Path) -> None:
    for name, size, level in (("a/x.png", (20, 10), 50), ("b/y.png", (10, 10), 200)):
        (tmp_path / name).parent.mkdir()
        Image.new("L", size, level).save(tmp_path / name)
    data = Dataset.from_folder(tmp_path)
    pixels = np.full((2, 28, 28, 1), 100, np.uint8)
    pixels[1, 0] = 220  # a bright first row
    found = looks(data, [(np.arange(2), pixels)])
    assert found.shape == (2, 10)
    assert found[0].tolist() == pytest.approx([np.log(20), np.log(10), np.log(2), 100, 0, 100, 100, 100, 100, 0])
    assert found[1, :3].tolist() == pytest.approx([np.log(10), np.log(10), 0])
    assert found[1, 5] == 220
    assert found[1, 6] == 100
    assert not looks(data, []).any()


def test_of_several_repeats_the_first_is_compared() -> None:
    model, _, _ = study()
    twice = Predictions.concat([model, attrs.evolve(model, fold=model.fold + 2, repeat=np.ones(COUNT))])
    assert judged_once(twice).ids.tolist() == model.ids.tolist()
