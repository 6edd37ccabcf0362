"""What a run writes down about its predictions: thresholds of the right records, and what the numbers stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest

from imgcls.core.folders import read_json
from imgcls.data.folds import Fold, Folds
from imgcls.evaluation import results
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.results import conclude, load_thresholds
from imgcls.evaluation.thresholds import fit_thresholds


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESAMPLES", 20)


def part(fold: int, records: range, *, split: str = "val", grouped: bool = True) -> Predictions:
    scores = np.random.default_rng(fold).random(len(records))
    return Predictions(
        ids=[f"{at:02d}.png" for at in records],
        labels=[at % 2 for at in records],
        logits=np.log(np.stack([1 - scores, scores], axis=1)),
        probs=np.stack([1 - scores, scores], axis=1),
        groups=[f"p{at // 4}" for at in records] if grouped else None,
        fold=np.full(len(records), fold),
        split=split,
        classes=("no", "yes"),
        positive="yes",
    )


def planned(*repeats: int, report: str = "test", prior: dict[str, float] | None = None) -> Folds:
    none = np.zeros(0, dtype=np.int64)
    folds = (Fold(train=none, val=none, test=none, unused=none),) * len(repeats)
    return Folds(folds=folds, fingerprint="", repeats=repeats, report=report, prior=prior)


def concluded(folder: Path, val: list[Predictions], test: list[Predictions], **options: Any) -> dict[str, Any]:
    folds = planned(*[0] * len(val), report="test" if test else "val")
    conclude(folder, val, test, **{"folds": folds, "fixed": False, "rules": ["max_f1"], "seed": 0, **options})
    found: dict[str, Any] = read_json(folder / "evaluation.json")
    return found


def test_the_threshold_of_the_mean_counts_each_record_once(tmp_path: Path) -> None:
    val = [part(0, range(20)), part(1, range(10, 30))]
    concluded(tmp_path, val, [part(0, range(30, 40), split="test"), part(1, range(40, 50), split="test")])
    shared = Predictions.mean_of_folds([val[0].take(range(10, 20)), val[1].take(range(10))])
    averaged = Predictions.concat([val[0].take(range(10)), shared, val[1].take(range(10, 20))])
    expected = {
        model: fit_thresholds(p, model=model) for model, p in {"0": val[0], "1": val[1], "mean": averaged}.items()
    }
    assert load_thresholds(tmp_path / "thresholds.json") == tuple(t for fitted in expected.values() for t in fitted)


def test_a_rule_that_is_usual_anyway_is_listed_once(tmp_path: Path) -> None:
    concluded(tmp_path, [part(0, range(20))], [], rules=[0.5])
    assert [t.rule for t in load_thresholds(tmp_path / "thresholds.json") if t.model == "mean"] == [
        *("0.5", "max_f1", "sensitivity>=0.95")
    ]


def test_rotating_test_parts_do_not_measure_what_predict_applies(tmp_path: Path) -> None:
    val, test = (
        [part(0, range(20)), part(1, range(20))],
        [part(n, range(n * 8, n * 8 + 8), split="test") for n in (0, 1)],
    )
    assert concluded(tmp_path, val, test)["models"] == (
        "each record by the fold that did not train on it; predict applies the mean of the folds, which these numbers "
        "do not measure"
    )
    same = [attrs.evolve(test[0], fold=np.full(8, fold)) for fold in (0, 1)]
    assert concluded(tmp_path, val, same, fixed=True)["models"] == "mean of the folds"


def test_numbers_say_whether_they_chose_anything(tmp_path: Path) -> None:
    val = [part(0, range(20))]
    alone = concluded(tmp_path, val, [], fixed=True)
    assert alone["models"] == "by the only model"
    assert "these validation numbers also chose checkpoint and thresholds" in alone["selection"]
    tested = concluded(tmp_path, val, [part(0, range(20, 40), split="test")], fixed=True)
    assert tested["selection"] == "this run used its test numbers for nothing"


@pytest.mark.parametrize(("grouped", "units"), [(True, "groups"), (False, "records")])
def test_intervals_name_what_was_drawn(grouped: bool, units: str, tmp_path: Path) -> None:
    said = concluded(tmp_path, [part(0, range(20), grouped=grouped)], [])["intervals"]
    assert said.startswith(f"95 %, from 20 resamples of {units}: shares of records by Wilson (1927)")
    assert f"shares by Wilson with the number of {units}" in said
    assert ("groups" in said) == grouped


# Where validation is reported


def test_reported_validation_has_thresholds_from_other_folds(tmp_path: Path) -> None:
    val = [part(fold, range(fold * 12, fold * 12 + 12)) for fold in range(3)]
    said = concluded(tmp_path, val, [])["selection"]
    assert said.startswith("used for selection: there are no test records, and these")
    assert said.endswith(
        "also chose the checkpoint, so they flatter; the threshold of each fold is fitted on the other folds"
    )
    others = {"0": [val[1], val[2]], "1": [val[0], val[2]], "2": [val[0], val[1]]}
    expected = [t for model, parts in others.items() for t in fit_thresholds(Predictions.concat(parts), model=model)]
    assert [t for t in load_thresholds(tmp_path / "thresholds.json") if t.model != "mean"] == expected


def test_other_folds_say_nothing_of_groups_that_a_fold_has_itself(tmp_path: Path) -> None:
    val = [part(0, range(12)), part(1, range(10, 24))]  # group p2 is of both
    concluded(tmp_path, val, [])
    found = load_thresholds(tmp_path / "thresholds.json")
    assert found[0] == fit_thresholds(val[1].take(range(2, 14)), model="0")[0]
    same = [val[0], attrs.evolve(val[0], fold=np.ones(12))]
    concluded(tmp_path, same, [])
    assert load_thresholds(tmp_path / "thresholds.json")[0].num_records == 12  # its own, for want of others


def test_labels_without_enough_records_are_told(tmp_path: Path) -> None:
    several = part(0, range(40))
    marks = np.stack([several.labels, np.arange(40) < 4], axis=1)
    val = attrs.evolve(several, labels=marks, positive=None)
    said = concluded(tmp_path, [val], [], folds=planned(0, report="val"))
    assert said["warnings"][-1].startswith("thresholds of 'yes' are 0.5: fewer than 5 validation records have, or lack")
    found = load_thresholds(tmp_path / "thresholds.json")
    assert {t.value for t in found if t.class_name == "yes"} == {0.5}
    assert all(t.achieved is not None for t in found if t.class_name == "no" and t.rule == "max_f1")


def test_folds_that_score_on_different_scales_are_told(tmp_path: Path) -> None:
    parts = [part(fold, range(20 * fold, 20 * fold + 20), grouped=False) for fold in (0, 1)]
    sorted_scores = np.sort(parts[0].scores)[np.argsort(np.argsort(parts[0].labels, kind="stable"))]

    def scored(one: Predictions, low: float) -> Predictions:
        scores = low + 0.4 * sorted_scores
        return attrs.evolve(one, probs=np.stack([1 - scores, scores], axis=1))

    apart = concluded(tmp_path, [scored(parts[0], 0.0), scored(parts[1], 0.6)], [])
    alike = concluded(tmp_path, [scored(parts[0], 0.3), scored(parts[1], 0.3)], [])
    assert any("1.000 on average over the folds and 0.750 pooled" in line for line in apart["warnings"])
    assert not any("different scales" in line for line in alike["warnings"])


# Repeats


def test_other_folds_are_those_of_the_same_repeat(tmp_path: Path) -> None:
    val = [part(fold, range(fold % 2 * 12, fold % 2 * 12 + 12)) for fold in range(4)]
    said = concluded(tmp_path, val, [], folds=planned(0, 0, 1, 1, report="val"))
    found = {t.model: t for t in load_thresholds(tmp_path / "thresholds.json") if t.rule == "max_f1"}
    assert found["0"] == fit_thresholds(val[1], model="0")[0]
    assert found["2"] == fit_thresholds(val[3], model="2")[0]
    assert found["mean"].num_records == 24
    assert (said["records"], said["repeats"]) == (24, 2)
    assert "mean of the values of 2 repeats" in said["models"]
    table = pd.read_csv(tmp_path / "metrics.csv", dtype={"fold": str})
    assert set(table.fold) == {"all", "repeat 0", "repeat 1", *"0123", "folds"}


def test_saved_test_predictions_name_their_repeat(tmp_path: Path) -> None:
    val = [part(fold, range(20)) for fold in (0, 1)]
    test = [part(fold, range(20, 40), split="test") for fold in (0, 1)]
    concluded(tmp_path, val, test, folds=planned(0, 1))
    assert Predictions.load(tmp_path / "predictions_test.npz").repeat.tolist() == [0] * 20 + [1] * 20
    concluded(tmp_path, val, test, folds=planned(0, 1), fixed=True)
    assert set(Predictions.load(tmp_path / "predictions_test.npz").repeat) == {MEAN}


# The population


def test_validation_is_restored_to_the_population_and_test_is_not(tmp_path: Path) -> None:
    val, test = part(0, range(20)), part(0, range(20, 40), split="test")
    prior = {"yes": 0.1, "no": 0.9}
    said = concluded(tmp_path, [val], [test], folds=planned(0, prior=prior))
    assert said["population"] == prior
    assert load_thresholds(tmp_path / "thresholds.json")[:3] == fit_thresholds(val, model="0", prior=[0.9, 0.1])
    table = pd.read_csv(tmp_path / "metrics.csv")
    table = table[(table["class"].isna()) & (table.threshold == "0.5") & (table.level == "image")]
    values = table.set_index(["split", "metric"])["value"].to_dict()
    for split, positive in (("val", 0.1), ("test", 0.5)):
        expected = positive * values[split, "sensitivity"] + (1 - positive) * values[split, "specificity"]
        assert values[split, "accuracy"] == pytest.approx(expected)
