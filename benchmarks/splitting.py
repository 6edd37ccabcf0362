"""How balanced and how fast stratified folds of whole groups are, beside scikit-learn.

    python benchmarks/splitting.py [--cases 300] [--rounds 3]

Balance: random sets of 2 to 8 classes, even to very skew, in groups of many sizes and of one or several classes, cut
into 2 to 10 folds. The measure is the mean over folds and classes of |share of the class's records in it - 1 / folds|.
Speed: a million records in 100,000 groups, in turn with scikit-learn, which gets its numbers ready made; imgcls begins
with the words of the table. The folds alone are those where validation rotates; whole folds have a validation part each
too and are checked. Writes docs/results/splitting.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold as Peer
from timing import in_turn  # type: ignore[import-not-found]  # beside this script

from imgcls.data.dataset import Dataset
from imgcls.splitting.allocation import allocate
from imgcls.splitting.kfold import StratifiedGroupKFold
from imgcls.splitting.units import class_counts

RESULT = Path(__file__).parent.parent / "docs" / "results" / "splitting.json"
RECORDS, GROUPS, FOLDS = 1_000_000, 100_000, 5

Ints = NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["IMGCLS_QUIET"] = "1"
    warnings.simplefilter("ignore")  # of classes with fewer records than folds
    even = balance(options.cases)
    fast = {purity: speed(purity, options.rounds) for purity in (1.0, 0.5)}
    result = {"rows": [*balance_rows(even), *speed_rows(fast)], "balance": even, "seconds": fast}
    result["machine"] = (
        f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, scikit-learn {sklearn.__version__}"
    )
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


# Balance

SIZES: tuple[Callable[[np.random.Generator, int], Any], ...] = (
    lambda rng, number: rng.integers(1, 4, number),
    lambda rng, number: rng.integers(1, 40, number),
    lambda rng, number: np.ceil(rng.lognormal(1, 1, number)).astype(int),
    lambda rng, number: rng.geometric(0.1, number),
)


def case(seed: int) -> tuple[Ints, Ints, int]:
    rng = np.random.default_rng(seed)
    num_classes, folds = int(rng.integers(2, 9)), int(rng.integers(2, 11))
    number = int(rng.integers(4 * folds, 400))
    groups = np.repeat(np.arange(number), SIZES[seed % 4](rng, number))
    frequency = rng.dirichlet(np.full(num_classes, rng.choice([0.5, 1, 5])))
    labels = mixed(rng, groups, frequency, purity=rng.choice([0, 0.5, 0.9, 1]))
    return groups, np.unique(labels, return_inverse=True)[1], folds


def mixed(rng: np.random.Generator, groups: Ints, frequency: NDArray[np.float64], *, purity: float) -> Ints:
    """Give each group a class, and each of its records that class or, with chance 1 - purity, a random one."""
    own = rng.choice(len(frequency), p=frequency, size=groups.max() + 1)[groups]
    other = rng.choice(len(frequency), p=frequency, size=len(groups))
    return np.where(rng.random(len(groups)) < purity, own, other)


def balance(cases: int) -> dict[str, Any]:
    found = np.empty((cases, 2))
    for seed in range(cases):
        groups, labels, folds = case(seed)
        counts = class_counts(groups, labels, int(labels.max()) + 1)
        ours = allocate(counts, np.full(folds, 1 / folds), np.random.default_rng(seed))
        found[seed] = deviation(ours, counts, folds), deviation(theirs(groups, labels, folds, seed), counts, folds)
    ahead = found[:, 0] - found[:, 1]
    wins, losses = int((ahead < -1e-9).sum()), int((ahead > 1e-9).sum())
    means = dict(zip(("imgcls", "sklearn"), found.mean(axis=0).round(6).tolist(), strict=True))
    worst = {"largest_loss": float(ahead.max().round(6)), "largest_win": float(-ahead.min().round(6))}
    return {
        "cases": cases,
        "mean_deviation": means,
        "wins": wins,
        "ties": cases - wins - losses,
        "losses": losses,
        **worst,
    }


def theirs(groups: Ints, labels: Ints, folds: int, seed: int) -> Ints:
    parts = np.empty(int(groups.max()) + 1, dtype=np.int64)
    split = Peer(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    for number, (_, test) in enumerate(split):
        parts[groups[test]] = number
    return parts


def deviation(parts: Ints, counts: Ints, folds: int) -> float:
    held = np.stack([counts[parts == part].sum(axis=0) for part in range(folds)])
    return float(np.abs(held / counts.sum(axis=0) - 1 / folds).mean())


def balance_rows(found: dict[str, Any]) -> list[dict[str, str]]:
    means = found["mean_deviation"]
    ratio = f"{means['imgcls'] / means['sklearn']:.3f}"
    record = f"{found['wins']} better, {found['ties']} equal, {found['losses']} worse"
    return [
        row(
            f"Deviation, mean of {found['cases']} random sets",
            f"{means['sklearn']:.5f}",
            f"{means['imgcls']:.5f}",
            ratio,
        ),
        row("The same, set by set", "", record, ""),
    ]


def row(what: str, peer: str, ours: str, ratio: str) -> dict[str, str]:
    return {"what": what, "StratifiedGroupKFold of scikit-learn": peer, "imgcls": ours, "ratio": ratio}


# Speed


def speed(purity: float, rounds: int) -> dict[str, float]:
    groups, labels = many(purity)
    pixels = np.zeros((RECORDS, 2, 2), np.uint8)
    dataset = Dataset.from_arrays(
        pixels, [f"class {label}" for label in labels], groups=[f"g{one:06d}" for one in groups]
    )
    peer = Peer(FOLDS, shuffle=True, random_state=0)

    ours = StratifiedGroupKFold(k=FOLDS)
    works = {  # a copy of the set has read no labels or groups yet
        "sklearn": lambda: list(peer.split(labels, labels, groups)),
        "folds": lambda: ours.assign(attrs.evolve(dataset), seed=0, test=False),
        "whole": lambda: ours.split(attrs.evolve(dataset), seed=0),
    }
    return {name: round(seconds, 3) for name, seconds in in_turn(works, rounds).items()}


def many(purity: float) -> tuple[Ints, Ints]:
    rng = np.random.default_rng(0)
    sizes = 1 + rng.multinomial(RECORDS - GROUPS, rng.dirichlet(np.ones(GROUPS)))
    groups = np.repeat(np.arange(GROUPS), sizes)[rng.permutation(RECORDS)]
    return groups, mixed(rng, groups, np.array([0.6, 0.2, 0.1, 0.07, 0.03]), purity=purity)


def speed_rows(found: dict[float, dict[str, float]]) -> list[dict[str, str]]:
    words = {1.0: "one class a group", 0.5: "several classes a group"}
    return [
        row(f"{what}, {words[purity]}, seconds", f"{peer:.1f}", f"{took[name]:.2f}", f"{peer / took[name]:.1f}")
        for purity, took in found.items()
        for name, what in (("folds", "Folds alone"), ("whole", "Whole folds with validation, checked"))
        for peer in (took["sklearn"],)
    ]


if __name__ == "__main__":
    main()
