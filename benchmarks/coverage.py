"""How often 95 % intervals hold the truth, in simulated studies of groups.

Each study has groups of 1 to 12 records; a record's score is a normal one, shifted by its label, plus what its group
has in common (intraclass correlation 0.5). The truth is that of 300,000 groups. Scenarios: `patients` (a group has one
label, 30 % positive), `mixed` (labels differ within groups), `strong` (a better model, 40 % positive), `rare` (12 %
positive, so 150 groups have 18 positive ones). Writes docs/results/coverage.json.
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.evaluation.arrays import Bools, Floats, Ints
from imgcls.evaluation.intervals import Method, Resampled, limits
from imgcls.evaluation.lines import Line, Support, measured
from imgcls.evaluation.resampling import drawn, left_out
from imgcls.evaluation.weighted import Cases, Weighted

RESULT = Path(__file__).parent.parent / "docs" / "results" / "coverage.json"
GROUPS = (20, 40, 60, 100, 150, 300)
METHODS: tuple[Method, ...] = ("t", "percentile", "bca")
LINES = (Line(metric="roc_auc"), Line(metric="average_precision"), Line(metric="sensitivity"))

#: Share of positive groups, distance of positive scores.
SCENARIOS = {"patients": (0.3, 2.0), "mixed": (0.3, 2.0), "strong": (0.4, 3.2), "rare": (0.12, 2.2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--scenarios", nargs="*", default=list(SCENARIOS))
    options = parser.parse_args()
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    found: dict[str, list[dict[str, Any]]] = {
        method: [row for row in known.get(method, []) if row["scenario"] not in options.scenarios] for method in METHODS
    }
    for scenario in options.scenarios:
        for groups in GROUPS:
            for method, row in coverage(scenario, groups, options.studies, options.resamples).items():
                found[method].append(row)
                print(method, row, flush=True)
    for rows in found.values():
        rows.sort(key=lambda row: list(SCENARIOS).index(row["scenario"]))
    result = {"studies": options.studies, "resamples": options.resamples, **found}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def study(rng: np.random.Generator, scenario: str, groups: int) -> tuple[Ints, Bools, Floats]:
    """Draw the owners, the labels and the scores of the records of one study."""
    share, distance = SCENARIOS[scenario]
    owners = np.repeat(np.arange(groups), np.minimum(rng.geometric(0.35, groups), 12))
    chances = rng.beta(3 * share, 3 * (1 - share), groups) if scenario == "mixed" else rng.random(groups) < share
    labels = rng.random(len(owners)) < chances[owners]
    return owners, labels, distance * labels + rng.normal(size=groups)[owners] + rng.normal(size=len(owners))


def cases(owners: Ints, labels: Bools, scores: Floats, cut: float) -> Cases:
    probs = 1 / (1 + np.exp(-scores))
    preds = (scores >= cut).astype(np.int64)
    return Cases(labels=labels.astype(np.int64), probs=np.stack([1 - probs, probs], axis=1), preds=preds, owners=owners)


@functools.cache
def truth(scenario: str) -> tuple[float, Floats]:
    """Find the threshold whose sensitivity is 0.85, and the true values."""
    found = study(np.random.default_rng(99), scenario, 300_000)
    cut = float(np.quantile(found[2][found[1]], 0.15))
    whole = cases(*found, cut)
    return cut, measured(LINES, {"": Weighted(cases=whole, weights=np.ones((1, whole.num_groups)))})[0]


def coverage(scenario: str, groups: int, studies: int, resamples: int) -> dict[Method, dict[str, Any]]:
    """Simulate studies; of each method how often each metric's interval holds the truth, among those that have one."""
    cut, true = truth(scenario)
    held = {method: np.full((studies, len(LINES)), np.nan) for method in METHODS}
    positive = np.zeros(studies)
    for number in range(studies):
        part = cases(*study(np.random.default_rng([groups, number]), scenario, groups), cut)
        positive[number] = len(np.unique(part.owners[part.labels == 1]))
        found = _resampled(part, resamples, seed=number)
        for method in METHODS:
            low, high, _ = limits(found, method)
            held[method][number] = np.where(np.isnan(low), np.nan, (low <= true) & (true <= high))
    counts = {"scenario": scenario, "groups": groups, "positive groups": round(float(positive.mean()))}
    return {method: {**counts, **_shares(held[method])} for method in METHODS}


def _shares(held: Floats) -> dict[str, float]:
    names = [line.metric.replace("_", " ") for line in LINES]
    found = {name: round(float(np.nanmean(column)), 3) for name, column in zip(names, held.T, strict=True)}
    return {**found, "without interval": round(float(np.isnan(held).any(axis=1).mean()), 3)}


def _resampled(part: Cases, resamples: int, seed: int) -> Resampled:
    def values(weights: Floats) -> Floats:
        return measured(LINES, {"": Weighted(cases=part, weights=weights)})

    support = Support.of(LINES, [{"": part}])
    size = part.num_groups
    return Resampled(
        values=values(np.ones((1, size)))[0],
        drawn=np.concatenate([values(w) for w in drawn(size, resamples=resamples, seed=seed, rows=resamples)]),
        left=np.concatenate([values(w) for w in left_out(size, seed=seed, rows=resamples)]),
        shares=support.shares,
        records=support.records,
        groups=support.groups,
        spans=np.tile([0.0, 1.0], (len(LINES), 1)),
    )


if __name__ == "__main__":
    main()
