"""What a run writes down about its predictions: thresholds of the right records, and what the numbers stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from imgcls.core.folders import read_json
from imgcls.evaluation import results
from imgcls.evaluation.predictions import Predictions
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


def concluded(folder: Path, val: list[Predictions], test: list[Predictions], **options: Any) -> dict[str, Any]:
    conclude(folder, val, test, **{"fixed": False, "rules": ["max_f1"], "seed": 0, **options})
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
    assert said.startswith(f"95 %, percentile bootstrap over {units}, 20 resamples; where these all agree")
    assert f"Wilson (1927) for the number of {units}" in said
    assert ("groups" in said) == grouped
