"""From the predictions of the folds to the results of a run, on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from imgcls.core import config
from imgcls.core.errors import DataError, listing
from imgcls.core.folders import read_json, write_json, write_text
from imgcls.data.folds import Folds
from imgcls.evaluation.aggregation import aggregate
from imgcls.evaluation.decisions import confusion, hard_errors
from imgcls.evaluation.evaluate import SPREAD, evaluate
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.thresholds import (
    MIN_POSITIVES,
    RULES,
    GivenRule,
    Threshold,
    fit_thresholds,
    parse_rule,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["conclude", "doubts", "grouped", "load_thresholds", "thresholds_of", "with_repeats"]

#: How often groups are drawn for each interval.
RESAMPLES = 1000

#: A pooled area so much below the mean of the folds shows that their scores are of different scales.
_UNLIKE = 0.05


def conclude(
    folder: Path,
    val: Sequence[Predictions],
    test: Sequence[Predictions],
    *,
    folds: Folds,
    fixed: bool,
    rules: Sequence[GivenRule],
    seed: int,
) -> None:
    """Fit thresholds on validation, apply them to test, and write everything down.

    Each fold's threshold is fitted on its own validation records. Where these are what is
    reported, it is cross-fitted instead: on the validation records of the other folds of the
    repeat. That of the mean of the folds, which `predict` applies, is fitted on the validation
    records of all folds and repeats, each predicted by a model that did not train on it; what several
    such models said about a record is averaged first, so that each record counts once.

    Args:
        folder: The run's folder.
        val: Validation predictions, one a fold.
        test: Test predictions, one a fold; empty where nothing tests.
        folds: The folds that were trained: which repeat each belongs to, what is reported, and
            how validation records count.
        fixed: Whether all folds predict the same test records, which are then also
            predicted by the mean of the folds.
        rules: Threshold rules to fit beside the usual ones; first the one that decides.
        seed: Of the intervals.
    """
    import pandas as pd

    val, test = (with_repeats(parts, folds.repeats) for parts in (val, test))
    prior = None if folds.prior is None else [folds.prior[name] for name in val[0].classes]
    wanted, crossed = [*rules, *RULES], folds.report == "val"
    thresholds = thresholds_of(val, wanted, prior=prior, crossed=crossed)
    tables = _tables(val, test, thresholds, fixed=fixed, prior=prior, seed=seed)
    final = Predictions.concat(val)
    if test:
        final = Predictions.mean_of_folds(test) if fixed else Predictions.concat(test)
        final.save(folder / "predictions_test.npz")
    if joined := grouped(val, test):
        cuts = thresholds_of(joined[0], wanted, prior=prior, crossed=crossed)
        found = _tables(joined[0], joined[1], cuts, fixed=fixed, prior=prior, seed=seed)
        tables += [table[table["fold"].isin(["all", "mean"])].assign(level="group") for table in found]
        write_json(folder / "thresholds_groups.json", [attrs.asdict(threshold) for threshold in cuts])
    table = pd.concat(tables)
    write_text(folder / "metrics.csv", table.to_csv(index=False))
    write_json(folder / "thresholds.json", [attrs.asdict(threshold) for threshold in thresholds])
    decision = thresholds[0].rule if thresholds else ""
    write_text(folder / "hard_errors.csv", hard_errors(final, thresholds, decision).to_csv(index=False))
    write_json(
        folder / "evaluation.json",
        _summary(final, thresholds, folds, fixed=fixed)
        | {"warnings": [*doubts(table), *_unfitted(thresholds, decision)]},
    )


def _tables(
    val: Sequence[Predictions],
    test: Sequence[Predictions],
    thresholds: Sequence[Threshold],
    *,
    fixed: bool,
    prior: Sequence[float] | None,
    seed: int,
) -> list[pd.DataFrame]:
    tables = [evaluate(Predictions.concat(val), thresholds, prior=prior, resamples=RESAMPLES, seed=seed)]
    if test:
        every = [*test, Predictions.mean_of_folds(test)] if fixed else test
        tables.append(evaluate(Predictions.concat(every), thresholds, resamples=RESAMPLES, seed=seed))
    return tables


def grouped(*parts: Sequence[Predictions]) -> list[list[Predictions]]:
    """Predict groups by the mean of their images, where that says something new.

    Args:
        *parts: Predictions of one fold each, of the validation and of the test records.

    Returns:
        The same of groups; nothing where there are none, each has one image, or the images of a group are of several
        of more than two classes.
    """
    every = [one for part in parts for one in part]
    if all(one.groups is None or len(np.unique(one.groups)) == len(one) for one in every):
        return []
    try:
        return [[aggregate(one) for one in part] for part in parts]
    except DataError:
        return []


def doubts(table: pd.DataFrame) -> list[str]:
    """Say which intervals of a table are rough, or missing, and where folds do not rank alike.

    Args:
        table: As `evaluate` returns it.

    Returns:
        A sentence for each split and level.
    """
    whole = table[(table["class"] == "") & (table["group"] == "") & table["fold"].isin(["all", "mean"])]
    found = []
    for (split, level), rows in whole.groupby(["split", "level"], sort=False):
        for kind in ("rough interval", "no interval: too few"):
            names = rows[rows["note"].str.startswith(kind)]["metric"].unique().tolist()
            if names:
                why = rows[rows["note"].str.startswith(kind)]["note"].iloc[0]
                found.append(f"{split}, by {level}: {why} ({listing(names, limit=4)})")
    return found + _unlike(table)


# Pooled rankings hold scores of different models against each other (Forman and Scholz 2010).
def _unlike(table: pd.DataFrame) -> list[str]:
    areas = table[(table["metric"] == "roc_auc") & (table["class"] == "") & (table["group"] == "")]
    keys = areas[["split", "level", "fold"]].itertuples(index=False, name=None)
    values = dict(zip(keys, areas["value"].tolist(), strict=True))
    return [
        f"{split}, by {level}: the area under the ROC curve is {values[split, level, SPREAD]:.3f} on average over the "
        f"folds and {pooled:.3f} pooled; the models of the folds score on different scales"
        for (split, level, fold), pooled in values.items()
        if fold == "all" and values.get((split, level, SPREAD), pooled) - pooled > _UNLIKE
    ]


def with_repeats(parts: Sequence[Predictions], repeats: Sequence[int]) -> list[Predictions]:
    """Note in predictions which repeat they belong to.

    Args:
        parts: Predictions of one fold each.
        repeats: The repeat of each fold of the run.

    Returns:
        The same with `repeat`.
    """
    return [attrs.evolve(part, repeat=np.full(len(part), repeats[part.fold[0]])) for part in parts]


def thresholds_of(
    val: Sequence[Predictions], rules: Sequence[GivenRule], *, prior: Sequence[float] | None, crossed: bool
) -> list[Threshold]:
    """Fit the thresholds of the model of each fold, and of their mean.

    Args:
        val: Validation predictions, one a fold, with `repeat`.
        rules: As for `fit_thresholds`.
        prior: As for `fit_thresholds`.
        crossed: Whether those of a fold are fitted to the validation records of the other folds.

    Returns:
        Those of the folds by their numbers, then those of the mean.
    """
    whole = Predictions.concat(val).mean_of_repeats()
    shared: dict[str, Any] = {"rules": rules, "prior": prior, "unfitted": _rare(whole)}
    found: list[Threshold] = []
    for part in val:
        found += fit_thresholds(_others(part, val) if crossed else part, model=str(part.fold[0]), **shared)
    return [*found, *fit_thresholds(whole, model="mean", **shared)]


# Labels that so few validation records have, or lack, that a threshold would rest on chance.
def _rare(whole: Predictions) -> list[str]:
    if not whole.multilabel:
        return []
    positive = whole.labels.sum(axis=0)
    fewest = np.minimum(positive, len(whole) - positive)
    return [name for name, count in zip(whole.classes, fewest, strict=True) if count < MIN_POSITIVES]


def _unfitted(thresholds: Sequence[Threshold], decision: str) -> list[str]:
    names = [t.class_name for t in thresholds if t.model == "mean" and t.rule == decision and t.achieved is None]
    if not names or parse_rule(decision).kind == "fixed":
        return []
    return [
        f"thresholds of {listing(names, limit=4)} are 0.5: fewer than {MIN_POSITIVES} validation records have, or "
        "lack, the label"
    ]


# What other folds of the repeat say of records, and groups, that the part has not; the part itself where they
# say nothing that a threshold could be fitted on.
def _others(part: Predictions, val: Sequence[Predictions]) -> Predictions:
    others = [one for one in val if one.repeat[0] == part.repeat[0] and one.fold[0] != part.fold[0]]
    if not others:
        return part
    pooled = Predictions.concat(others)
    held, own = (one.ids if one.groups is None else one.groups for one in (pooled, part))
    free = ~np.isin(held, own)
    if not all(pooled.has(index)[free].any() for index in range(pooled.num_classes)):
        return part
    return pooled.take(free).mean_of_repeats()


def _summary(final: Predictions, thresholds: Sequence[Threshold], folds: Folds, *, fixed: bool) -> dict[str, Any]:
    rules = ["", *dict.fromkeys(threshold.rule for threshold in thresholds)]
    order = list(final.classes)
    if final.positive_index == 0:
        order.reverse()
    return {
        "schema": 1,
        "split": final.split,
        "records": len(np.unique(final.ids)),
        "repeats": folds.num_repeats,
        "models": _models(final, fixed=fixed),
        "selection": _selection(final, thresholds, folds),
        "population": folds.prior,
        "intervals": _intervals("records" if final.groups is None else "groups"),
        "classes": order,
        "multilabel": final.multilabel,
        "confusion": {rule or "argmax": confusion(final, thresholds, rule).tolist() for rule in rules},
    }


def _models(final: Predictions, *, fixed: bool) -> str:
    if fixed and final.split == "test":
        return "mean of the folds"
    if len(np.unique(final.fold)) == 1:
        return "by the only model"
    whose = "each record by the fold that did not train on it"
    repeats = len(np.unique(final.repeat))
    if repeats > 1:
        whose += f", mean of the values of {repeats} repeats"
    return f"{whose}; predict applies the mean of the folds, which these numbers do not measure"


def _selection(final: Predictions, thresholds: Sequence[Threshold], folds: Folds) -> str:
    if final.split == "test":
        return "this run used its test numbers for nothing"
    crossed = len(folds) > folds.num_repeats
    chosen = "checkpoint and thresholds" if thresholds and not crossed else "the checkpoint"
    fitted = "; the threshold of each fold is fitted on the other folds" if thresholds and crossed else ""
    return (
        "used for selection: there are no test records, and these validation numbers also chose "
        f"{chosen}, so they flatter{fitted}"
    )


def _intervals(units: str) -> str:
    return (
        f"95 %, from {RESAMPLES} resamples of {units}: shares of records by Wilson (1927) with an effective number of "
        "records, other metrics by Student's t on the logit or log scale; where resamples all agree, shares by Wilson "
        f"with the number of {units}, other metrics none"
    )


def load_thresholds(path: Path) -> tuple[Threshold, ...]:
    """Read the thresholds of a run.

    Args:
        path: Its `thresholds.json`.

    Returns:
        The thresholds.
    """
    return tuple(config.build(Threshold, item, path=path.name) for item in read_json(path))
