"""Runs against runs: what each reached, and whether they differ on the records that all of them judged."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import numpy as np

from imgcls.core import options
from imgcls.core.errors import DataError, RunError
from imgcls.core.folders import write_text
from imgcls.evaluation.decisions import decisions
from imgcls.evaluation.evaluate import SPREAD, Table
from imgcls.evaluation.paired import delong, differences, holm, mcnemar
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.resampling import units
from imgcls.evaluation.thresholds import Threshold
from imgcls.report.material import Material
from imgcls.report.versus import write_comparison
from imgcls.run import Run, load_run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "compare_runs"]

#: What runs are compared by, where their records define it; behind a threshold each takes its own.
_COMPARED = ("roc_auc", "average_precision", "loss", "brier", "accuracy", "balanced_accuracy", "f1_macro")
_DECIDED = ("sensitivity", "specificity", "f1")


@attrs.frozen(kw_only=True, eq=False)
class Comparison:
    """What runs reached.

    Attributes:
        metrics: The rows of all runs, as `Run.metrics`, with `run` in front.
        table: A row a run and metric: run, metric, threshold, value, low, high (over all folds, with the 95 %
            interval), and mean and std over the folds, NaN with fewer than two.
        pairs: A row a pair of runs and test: first, second, metric, test ("bootstrap", "delong" or "mcnemar"),
            difference (second minus first), low, high, p, p_holm (corrected for the number of pairs), n and groups.
        folders: Those of the runs, by name.
    """

    metrics: pd.DataFrame
    table: pd.DataFrame
    pairs: pd.DataFrame
    folders: Mapping[str, Path]

    def save(self, folder: Path | str) -> Path:
        """Write `combined_results.csv`, `comparison.csv` and `pairs.csv`.

        Args:
            folder: Where to.

        Returns:
            The folder.
        """
        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        for name, found in (("combined_results", self.metrics), ("comparison", self.table), ("pairs", self.pairs)):
            write_text(where / f"{name}.csv", found.to_csv(index=False))
        return where

    def report(self, path: Path | str = "comparison.html") -> Path:
        """Write one page about the runs, which needs nothing else to be read.

        Args:
            path: The HTML file.

        Returns:
            The file.
        """
        materials = {name: Material.read(folder) for name, folder in self.folders.items()}
        return write_comparison(Path(path), self.table, self.pairs, materials)

    def __str__(self) -> str:
        shown = (self.table.round(3), self.pairs.round(4))
        return "\n\n".join(found.to_string(index=False, na_rep="") for found in shown)


@attrs.frozen(kw_only=True, eq=False)
class _Entry:
    """A run to be compared: its final predictions, in the order of repeats and ids."""

    name: str
    run: Run
    predictions: Predictions
    thresholds: tuple[Threshold, ...]
    rule: str

    @classmethod
    def of(cls, name: str, run: Run, split: str) -> _Entry:
        found, rule = run.predictions(split), run.model.decision
        mean = found.fold == MEAN
        found = found.take(mean) if mean.any() else found
        known = tuple(threshold for threshold in run.thresholds if threshold.rule == rule)
        return cls(name=name, run=run, predictions=found, thresholds=known, rule=rule if known else "").ordered()

    def ordered(self) -> _Entry:
        order = np.lexsort((self.predictions.ids, self.predictions.repeat))
        return attrs.evolve(self, predictions=self.predictions.take(order))

    def kept(self, ids: set[str]) -> _Entry:
        own = self.predictions
        return attrs.evolve(self, predictions=own.take(np.isin(own.ids, sorted(ids))))


def compare_runs(
    runs: Mapping[str, Run | str | Path],
    *,
    split: Literal["test", "val"] | None = None,
    records: Literal["same", "common"] = "same",
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare runs on the same records.

    Each pair is compared by a paired bootstrap over groups (records without groups), the areas under the ROC curve of
    two classes also by DeLong's test, and the decisions by McNemar's, both by group where there are groups. A run
    decides by its own rule and thresholds. Folds share training records, so mean and std over folds describe and test
    nothing.

    Args:
        runs: Two or more, by the name that the tables give them: a run, or its folder.
        split: Which predictions; None takes test, or val where no run has test records.
        records: "same" refuses runs that did not predict the same records; "common" compares on those that all did.
        resamples: How often groups are drawn.
        seed: Of the draws.

    Returns:
        The comparison.

    Raises:
        ConfigError: if an option has a wrong value.
        DataError: if classes, records, labels or groups differ.
        RunError: if some runs report test records and some have none.
    """
    import pandas as pd

    if len(runs) < 2:
        raise options.rejected("runs", "name at least two runs", list(runs))
    if split not in {None, "test", "val"}:
        raise options.rejected("split", "be 'test' or 'val'", split)
    if records not in {"same", "common"}:
        raise options.rejected("records", "be 'same' or 'common'", records)
    opened = {name: run if isinstance(run, Run) else load_run(run) for name, run in runs.items()}
    wanted = split or _split(opened)
    entries = _alike([_Entry.of(name, run, wanted) for name, run in opened.items()], records)
    metrics = pd.concat([run.metrics.assign(run=name) for name, run in opened.items()], ignore_index=True)
    metrics = metrics[["run", *(column for column in metrics if column != "run")]]
    return Comparison(
        metrics=metrics,
        table=_summary(metrics[metrics["split"] == wanted], entries),
        pairs=_pairs(entries, resamples=resamples, seed=seed),
        folders={name: run.folder for name, run in opened.items()},
    )


def _split(runs: Mapping[str, Run]) -> Literal["test", "val"]:
    selecting = [name for name, run in runs.items() if run.used_for_selection]
    if selecting and len(selecting) < len(runs):
        raise RunError(
            f"'runs' must all have test records, got none in {selecting}, whose validation records chose the "
            "checkpoint; compare them with split='val'"
        )
    return "val" if selecting else "test"


def _alike(entries: Sequence[_Entry], records: str) -> list[_Entry]:
    first = entries[0]
    every = [set(entry.predictions.ids.tolist()) for entry in entries]
    common = set.intersection(*every)
    for entry, ids in zip(entries, every, strict=True):
        pair = f"in runs {first.name!r} and {entry.name!r}"
        for what in ("classes", "positive", "multilabel"):
            values = [getattr(one.predictions, what) for one in (first, entry)]
            if values[0] != values[1]:
                raise DataError(f"'runs' must have the same {what}, got {values[0]!r} and {values[1]!r} {pair}")
        if records == "same" and ids != every[0]:
            raise DataError(
                f"'runs' must have predicted the same records, got {len(every[0])} and {len(ids)} {pair}, of which "
                f"{len(ids & every[0])} are the same; records='common' compares on those"
            )
    if not common:
        raise DataError("'runs' must have predicted the same records, got none that all did")
    kept = [entry.kept(common) for entry in entries]
    for entry in kept[1:]:
        _refuse_torn(kept[0], entry)
    return kept


def _refuse_torn(first: _Entry, other: _Entry) -> None:
    sides = [_by_id(entry.predictions) for entry in (first, other)]
    for what, one, two in (("labels", sides[0].labels, sides[1].labels), ("groups", sides[0].groups, sides[1].groups)):
        if (one is None) != (two is None) or (one is not None and not np.array_equal(one, np.asarray(two))):
            raise DataError(
                f"'runs' must have the same {what} of each record, got others in {first.name!r} and {other.name!r}"
            )


# Each record once, in the order of the ids.
def _by_id(predictions: Predictions) -> Predictions:
    return predictions.take(np.unique(predictions.ids, return_index=True)[1])


def _summary(metrics: pd.DataFrame, entries: Sequence[_Entry]) -> pd.DataFrame:
    import pandas as pd

    rules = {entry.name: entry.rule for entry in entries}
    table = metrics[(metrics["class"] == "") & (metrics["level"] == "image") & (metrics["group"] == "")]
    decided = table["metric"].isin(_DECIDED) & (table["threshold"] == table["run"].map(rules))
    table = table[decided | (table["metric"].isin(_COMPARED) & (table["threshold"] == ""))]
    keys = ["run", "metric", "threshold"]
    spread = table[table["fold"] == SPREAD].set_index(keys)
    whole = table[table["fold"].isin(["all", "mean"])].drop_duplicates(keys, keep="last").set_index(keys)
    found = whole[["value", "low", "high"]].copy()
    found["mean"], found["std"] = spread["value"], spread["high"] - spread["value"]
    order = pd.CategoricalIndex([key[0] for key in found.index], categories=list(rules), ordered=True)
    return found.reset_index().iloc[np.argsort(order.codes, kind="stable")].reset_index(drop=True)


def _pairs(entries: Sequence[_Entry], *, resamples: int, seed: int) -> pd.DataFrame:
    import pandas as pd

    tables = [Table.of(entry.predictions, entry.thresholds) for entry in entries]
    rows = []
    for one, two in itertools.combinations(range(len(entries)), 2):
        pair = {"first": entries[one].name, "second": entries[two].name}
        found = [*_tested(entries[one], entries[two])]
        found += _resampled(tables[one], tables[two], resamples=resamples, seed=seed)
        counts = {"n": len(_by_id(entries[one].predictions)), "groups": tables[one].num_groups}
        rows += [{**pair, **row, **counts} for row in found]
    table = pd.DataFrame(rows)
    table["p_holm"] = table.groupby(["metric", "test"])["p"].transform(lambda p: holm(p.to_numpy(dtype=float)))
    names = ["first", "second", "metric", "test", "difference", "low", "high", "p", "p_holm", "n", "groups"]
    return table[names]


# Rows stand in the same order in both tables; rules may differ, each is that of its run.
def _resampled(first: Table, second: Table, *, resamples: int, seed: int) -> list[dict[str, Any]]:
    where = [
        {(line.metric, bool(line.threshold)): at for at, line in enumerate(table.lines) if line.of is None}
        for table in (first, second)
    ]
    wanted = [(name, False) for name in _COMPARED] + [(name, True) for name in _DECIDED]
    wanted = [key for key in wanted if key in where[0] and key in where[1]]
    pair = [
        attrs.evolve(table, lines=[table.lines[at[key]] for key in wanted])
        for table, at in zip((first, second), where, strict=True)
    ]
    gap, low, high, p = differences(pair[0], pair[1], resamples=resamples, seed=seed)
    return [
        {"metric": name, "test": "bootstrap", "difference": gap[at], "low": low[at], "high": high[at], "p": p[at]}
        for at, (name, _) in enumerate(wanted)
    ]


# Of several repeats each record has several predictions; these tests are for one.
def _tested(first: _Entry, second: _Entry) -> list[dict[str, Any]]:
    one, two = first.predictions, second.predictions
    if one.multilabel or any(len(np.unique(each.repeat)) > 1 for each in (one, two)):
        return []
    owners = units(one.groups, len(one))
    right = [decisions(e.predictions, e.thresholds, e.rule) == e.predictions.labels for e in (first, second)]
    lost, gained, p = mcnemar(right[0], right[1], owners)
    none = {"low": np.nan, "high": np.nan}
    rows = [
        {"metric": "accuracy of decisions", "test": "mcnemar", "difference": (gained - lost) / len(one), "p": p, **none}
    ]
    if one.positive_index is not None:
        gap, error, chance = delong(one.has(one.positive_index), one.scores, two.scores, owners)
        ends = {"low": gap - 1.959964 * error, "high": gap + 1.959964 * error}
        rows.append({"metric": "roc_auc", "test": "delong", "difference": gap, "p": chance, **ends})
    return rows
