"""How long the default evaluation takes, beside a loop of scikit-learn's metrics over resamples.

Predictions of two classes, a tenth as many groups, all default metrics at the three usual threshold rules, 1000
resamples. The loop draws the same groups and computes the same metrics, those that scikit-learn has, of every resample;
since that takes minutes, a few resamples are timed and multiplied. Writes docs/results/evaluation.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn import metrics as sk
from timing import in_turn  # type: ignore[import-not-found]  # beside this script

from imgcls.evaluation.evaluate import evaluate
from imgcls.evaluation.predictions import Predictions, softmax
from imgcls.evaluation.thresholds import Threshold, fit_thresholds, values_for

RESULT = Path(__file__).parent.parent / "docs" / "results" / "evaluation.json"
RECORDS = (12_500, 25_000, 50_000, 100_000)
RESAMPLES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loops", type=int, default=5, help="Resamples of the loop that are timed.")
    options = parser.parse_args()
    evaluate(*case(1000))  # loads what is loaded once
    rows = [measured(count, options.rounds, options.loops) for count in RECORDS]
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, scikit-learn {sklearn.__version__}"
    )
    result = {"rows": rows, "resamples": RESAMPLES, "timed_resamples_of_the_loop": options.loops, "machine": machine}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def measured(count: int, rounds: int, loops: int) -> dict[str, Any]:
    predictions, thresholds = case(count)
    calls = [predictions.scores >= values_for(predictions, thresholds, t.rule) for t in thresholds]
    works = {
        "ours": lambda: evaluate(predictions, thresholds, resamples=RESAMPLES),
        "loop": lambda: list(loop(predictions, calls, loops)),
    }
    seconds = in_turn(works, rounds)
    theirs = seconds["loop"] * RESAMPLES / loops
    return {
        "predictions": count,
        "groups": count // 10,
        "imgcls, s": round(seconds["ours"], 2),
        "loop of scikit-learn, s": round(theirs),
        "ratio": round(theirs / seconds["ours"]),
    }


def case(count: int) -> tuple[Predictions, list[Threshold]]:
    rng = np.random.default_rng(0)
    owners = rng.integers(count // 10, size=count)
    labels = (rng.random(count) < 0.3).astype(np.int64)
    shift = rng.normal(size=count // 10)[owners] + 2 * labels - 1 + rng.normal(size=count)
    logits = np.stack([np.zeros(count), shift], axis=1)
    predictions = Predictions(
        ids=[f"{at:06d}.png" for at in range(count)],
        labels=labels,
        logits=logits,
        probs=softmax(logits),
        groups=[f"g{owner:05d}" for owner in owners],
        fold=np.zeros(count),
        split="test",
        classes=("no", "yes"),
        positive="yes",
    )
    return predictions, list(fit_thresholds(predictions, model="0"))


def loop(predictions: Predictions, calls: list[Any], resamples: int) -> Iterator[list[float]]:
    rng = np.random.default_rng(0)
    owners = np.unique(np.asarray(predictions.groups), return_inverse=True)[1]
    order = np.argsort(owners, kind="stable")
    ends = np.cumsum(np.bincount(owners))
    members = np.split(order, ends[:-1])
    for _ in range(resamples):
        rows = np.concatenate([members[group] for group in rng.integers(len(members), size=len(members))])
        labels, scores = predictions.labels[rows], predictions.scores[rows]
        values = [function(labels, scores) for function in (sk.log_loss, sk.brier_score_loss)]
        values += [function(labels, scores) for function in (sk.roc_auc_score, sk.average_precision_score)]
        values += decided(labels, scores >= 0.5)
        for called in calls:
            values += decided(labels, called[rows]) + of_positives(labels, called[rows])
        yield values


def decided(labels: Any, called: Any) -> list[float]:
    functions = (sk.accuracy_score, sk.balanced_accuracy_score, sk.matthews_corrcoef, sk.cohen_kappa_score)
    averages = [(f, how) for f in (sk.f1_score, sk.precision_score) for how in ("macro", "weighted")]
    return [f(labels, called) for f in functions] + [f(labels, called, average=how) for f, how in averages]


def of_positives(labels: Any, called: Any) -> list[float]:
    found = [f(labels, called) for f in (sk.recall_score, sk.precision_score, sk.f1_score)]
    return found + [f(labels, called, pos_label=0) for f in (sk.recall_score, sk.precision_score)]


if __name__ == "__main__":
    main()
