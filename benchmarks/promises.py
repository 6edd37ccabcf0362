"""Do prediction sets and calibrated probabilities keep what they promise? Are planted wrong labels found?

python benchmarks/promises.py --studies 2000 --out docs/results/promises.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from imgcls.evaluation.calibration import METHODS, calibrate, cross_calibrated, fit_calibration
from imgcls.evaluation.conformal import fit_conformal
from imgcls.evaluation.label_errors import label_errors
from imgcls.evaluation.predictions import Predictions, softmax
from imgcls.evaluation.reliability import reliability

#: How many records a group has, by the name of the layout.
LAYOUTS: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "1 record a group": lambda _, count: np.ones(count, dtype=int),
    "1, 3 or 20 records a group": lambda rng, count: rng.choice([1, 3, 20], size=count),
}


def study(rng: np.random.Generator, groups: int, layout: str, *, classes: int = 3, factor: float = 1.0) -> Predictions:
    """Records of a group share their label and how misleading they are; logits are `factor` times too large."""
    owners = np.repeat(np.arange(groups), LAYOUTS[layout](rng, groups))
    labels = rng.integers(classes, size=groups)[owners]
    logits = rng.normal(size=(len(owners), classes)) + 1.5 * rng.normal(size=(groups, classes))[owners]
    logits[np.arange(len(owners)), labels] += 1.5 + 0.5 * labels
    logits = factor * logits
    return Predictions(
        ids=[str(at) for at in range(len(owners))],
        labels=labels,
        logits=logits,
        probs=softmax(logits),
        groups=owners,
        fold=np.zeros(len(owners)),
        split="val",
        classes="abc"[:classes],
        positive="b" if classes == 2 else None,
    )


def sets(studies: int) -> list[dict[str, Any]]:
    """Coverage of a record drawn from a new group, promised 0.9, with weights by group and without."""
    rows = []
    for layout in LAYOUTS:
        for groups in (20, 60, 200):
            for method, per_class, weighted in (
                ("lac", False, True),
                ("lac", False, False),
                ("lac", True, True),
                ("aps", False, True),
            ):
                rows.append(_sets(studies, layout, groups, method, per_class=per_class, weighted=weighted))
    return rows


def _sets(studies: int, layout: str, groups: int, method: str, *, per_class: bool, weighted: bool) -> dict[str, Any]:
    hits, sizes, classes = [], [], []
    for seed in range(studies):
        rng = np.random.default_rng([seed, groups])
        known, new = study(rng, groups, layout), study(rng, 100, layout)
        known = known if weighted else attrs.evolve(known, groups=None)
        new = new.take(np.unique(np.asarray(new.groups), return_index=True)[1])
        inside = fit_conformal(known, alpha=0.1, method=method, per_class=per_class).sets(new.probs)
        hit = inside[np.arange(len(new)), new.labels]
        hits.append(hit.mean())
        sizes.append(inside.sum(axis=1).mean())
        classes.append([hit[new.labels == k].mean() if (new.labels == k).any() else np.nan for k in range(3)])
    return {
        "groups": groups,
        "layout": layout,
        "method": method + (", each class" if per_class else ""),
        "weights": "by group" if weighted else "by record",
        "promised": 0.9,
        "coverage": float(np.mean(hits)),
        "least class": float(np.nanmean(classes, axis=0).min()),
        "classes a set": float(np.mean(sizes)),
    }


def calibrations(studies: int) -> list[dict[str, Any]]:
    """Distance of what is kept from what is promised, on the records themselves, crossed, and on new ones."""
    rows = []
    for groups in (50, 200, 1000):
        for method in METHODS:
            found = [_errors(seed, groups, method) for seed in range(max(studies // 40, 10))]
            names = ("before", "fitted to themselves", "by others", "new records")
            means = dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))
            rows.append({"groups": groups, "method": method, **means})
    return rows


def _errors(seed: int, groups: int, method: str) -> list[float]:
    rng = np.random.default_rng([seed, groups])
    layout = "1, 3 or 20 records a group"
    known, new = (study(rng, count, layout, classes=2, factor=3) for count in (groups, 1000))
    fitted = fit_calibration(known, method, model="0")
    parts = [known, calibrate(known, [fitted]), cross_calibrated(known, method), calibrate(new, [fitted])]
    return [reliability(part, resamples=0).error for part in parts]


def labels() -> list[dict[str, Any]]:
    """The share of planted wrong labels of digits that are among the first tenth, by the strength of the model."""
    digits, rows = load_digits(), []
    for strength in (0.01, 0.1, 1.0):
        shares = [_planted(digits, strength, seed) for seed in range(3)]
        rows.append({"strength": str(strength), "least share": min(shares), "mean share": float(np.mean(shares))})
    return rows


def _planted(digits: Any, strength: float, seed: int) -> float:
    rng, given = np.random.default_rng(seed), digits.target.copy()
    wrong = rng.choice(len(given), size=len(given) // 20, replace=False)
    given[wrong] = (given[wrong] + rng.integers(1, 10, size=len(wrong))) % 10
    network = LogisticRegression(C=strength, max_iter=300)
    probs = cross_val_predict(network, digits.data / 16, given, cv=3, method="predict_proba")
    found = Predictions(
        ids=[str(at) for at in range(len(given))],
        labels=given,
        logits=probs,
        probs=probs,
        fold=np.zeros(len(given)),
        split="test",
        classes=[str(name) for name in range(10)],
    )
    first = label_errors(found, limit=len(given) // 10)["idx"].to_numpy()
    return float(np.isin(wrong, first).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    parts = {"rows": sets(given.studies), "calibration": calibrations(given.studies), "labels": labels()}
    found = {"studies": given.studies, **parts}
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for part in parts.values():
        print(*part, sep="\n")
