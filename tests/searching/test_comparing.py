"""How much the best trial flatters, which trials are hopeless, and which parameters mattered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imgcls.evaluation.predictions import Predictions
from imgcls.search.importance import importances
from imgcls.search.space import Choice, Float, Space
from imgcls.search.trials import Entry, Outcome, Trial
from imgcls.searching.optimism import over_folds, over_records
from imgcls.searching.plots import _texts, draw
from imgcls.searching.pruning import Finished, FoldPruning


def predictions(path: Path, *, skill: float, seed: int, number: int = 300) -> Path:
    labels = np.random.default_rng(0).integers(0, 2, number)
    scores = skill * labels + np.random.default_rng(seed).normal(size=number)
    probs = 1 / (1 + np.exp(-scores))
    path.mkdir(parents=True, exist_ok=True)
    Predictions(
        ids=np.arange(number).astype(str),
        labels=labels,
        logits=np.stack([0 * scores, scores], axis=1),
        probs=np.stack([1 - probs, probs], axis=1),
        groups=(np.arange(number) // 2).astype(str),
        fold=np.zeros(number, dtype=np.int64),
        split="val",
        classes=("a", "b"),
        positive="b",
    ).save(path / "predictions_val.npz")
    return path


def test_optimism_over_folds_is_the_formula_of_the_paper() -> None:
    values = np.array([[0.8, 0.6], [0.7, 0.75], [0.5, 0.9]])
    found = over_folds(values, direction="maximize")
    assert found is not None
    # Best over all folds is trial 1 (0.725); best in the folds are trials 0 (0.8) and 2 (0.9).
    assert found.value == pytest.approx(0.725)
    assert found.bias == pytest.approx(((0.8 - 0.7) + (0.9 - 0.75)) / 2)
    assert found.corrected == pytest.approx(0.725 - 0.125)
    less = over_folds(-values, direction="minimize")
    assert less is not None
    assert less.bias == pytest.approx(0.125)
    assert less.corrected == pytest.approx(-0.6)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1)])
def test_one_fold_or_one_trial_says_nothing_of_optimism(shape: tuple[int, int]) -> None:
    assert over_folds(np.zeros(shape), direction="maximize") is None


def test_trials_without_skill_have_optimism_that_is_taken_off(tmp_path: Path) -> None:
    paths = [predictions(tmp_path / str(seed), skill=0.0, seed=seed) / "predictions_val.npz" for seed in range(1, 21)]
    found = over_records(paths, monitor="roc_auc", direction="maximize", seed=0)
    assert found is not None
    assert found.value > 0.54
    assert abs(found.corrected - 0.5) < 0.03


def test_a_trial_that_is_much_worse_is_hopeless_after_one_fold(tmp_path: Path) -> None:
    good, bad = predictions(tmp_path / "good", skill=2.0, seed=1), predictions(tmp_path / "bad", skill=0.2, seed=2)
    best, worse = Finished(folders=[good], values=[0.9]), Finished(folders=[bad], values=[0.55])
    pruning = FoldPruning()
    assert pruning.hopeless(worse, best, monitor="roc_auc", seed=0)
    assert not pruning.hopeless(best, worse, monitor="roc_auc", seed=0)
    assert not pruning.hopeless(best, best, monitor="roc_auc", seed=0)
    assert pruning.hopeless(worse, best, monitor="loss", seed=0)
    assert not FoldPruning(folds=2).hopeless(worse, best, monitor="roc_auc", seed=0)


def test_a_trial_that_cannot_be_better_by_enough_is_hopeless(tmp_path: Path) -> None:
    good, bad = predictions(tmp_path / "good", skill=2.0, seed=1), predictions(tmp_path / "bad", skill=0.2, seed=2)
    best, worse = Finished(folders=[good], values=[0.9]), Finished(folders=[bad], values=[0.55])
    pruning = FoldPruning(min_gain=0.01)
    assert pruning.hopeless(best, best, monitor="roc_auc", seed=0)
    assert not pruning.hopeless(best, worse, monitor="roc_auc", seed=0)
    assert FoldPruning(min_gain=0.6).hopeless(best, worse, monitor="roc_auc", seed=0)
    near, far = (Finished(folders=[tmp_path] * 3, values=values) for values in ([0.91, 0.902, 0.905], [0.9, 0.89, 0.9]))
    assert not FoldPruning().hopeless(near, far, monitor="f1_best", seed=0)
    assert FoldPruning(min_gain=0.05).hopeless(near, far, monitor="f1_best", seed=0)


def test_a_trial_as_good_as_the_best_is_stopped_about_as_often_as_alpha_says(tmp_path: Path) -> None:
    folders = [predictions(tmp_path / str(seed), skill=1.0, seed=seed) for seed in range(80)]
    found = [Finished(folders=[folder], values=[0.7]) for folder in folders]
    pruning = FoldPruning(alpha=0.1)
    pairs = zip(found[::2], found[1::2], strict=True)
    stopped = sum(pruning.hopeless(one, other, monitor="roc_auc", seed=0) for one, other in pairs)
    assert 0 < stopped <= 10  # 4 of 40 are expected


def test_metrics_at_the_best_threshold_are_compared_over_folds() -> None:
    def finished(*values: float) -> Finished:
        return Finished(folders=[Path(str(value)) for value in values], values=values)

    best = finished(0.9, 0.91, 0.92)
    assert FoldPruning().hopeless(finished(0.5, 0.52, 0.51), best, monitor="f1_best", seed=0)
    assert not FoldPruning().hopeless(finished(0.5), finished(0.9), monitor="f1_best", seed=0)
    assert not FoldPruning().hopeless(finished(0.89, 0.92, 0.91), best, monitor="f1_best", seed=0)


SPACE = Space.of({"a": Float(0, 1), "b": Float(0, 1), "kind": Choice("x", "y"), "c": Float(0, 1, when={"kind": "x"})})


def entries(number: int) -> list[Entry]:
    rng = np.random.default_rng(0)
    drawn = [SPACE.sample(rng) for _ in range(number)]
    return [
        Entry(trial=Trial(number=place, params=params), outcome=Outcome("complete", values=params["a"]))
        for place, params in enumerate(drawn)
    ]


def test_what_decides_is_found_by_each_method() -> None:
    found = importances(entries(40), SPACE, direction="maximize")
    assert "permutation" in found
    for shares in found.values():
        assert max(shares, key=lambda path: shares[path]) == "a"
        assert sum(shares.values()) == pytest.approx(1.0)


def test_a_few_trials_say_nothing_of_importance() -> None:
    assert importances(entries(5), SPACE, direction="maximize") == {}


def test_pictures_are_drawn_without_plotly_for_whatever_there_is(tmp_path: Path) -> None:
    failed = Entry(trial=Trial(number=9, params={}), outcome=Outcome("failed", reason="no"))
    paths = draw(tmp_path, [failed], SPACE, metric="roc_auc", direction="maximize", importance={})
    assert [path.name for path in paths] == ["history.png"]
    many = draw(
        tmp_path,
        [*entries(9), failed],
        SPACE,
        metric="roc_auc",
        direction="minimize",
        importance={"permutation": {"a": 1.0}},
    )
    assert [path.stem for path in many] == ["history", "importance", "parallel", "slices"]


def test_choices_of_one_name_are_told_apart_by_what_differs() -> None:
    nets = [{"name": "net", "size": 3, "cut": cut} for cut in ("stride8", None)]
    assert _texts(["adamw", "sgd"]) == ["adamw", "sgd"]
    assert _texts([{"name": "a", "x": 1}, {"name": "b", "x": 2}]) == ["a", "b"]
    assert _texts([*nets, "other"]) == ["cut stride8", "cut None", "other"]
