"""All metrics of predictions, each with its interval, as one tidy table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from imgcls.core import options
from imgcls.evaluation.arrays import Floats, Ints
from imgcls.evaluation.decisions import decisions
from imgcls.evaluation.intervals import Method, Resampled, limits
from imgcls.evaluation.lines import Line, Support, lines_of, measured, reason
from imgcls.evaluation.metrics import span
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.resampling import drawn, left_out, units
from imgcls.evaluation.thresholds import Threshold, model_of
from imgcls.evaluation.weighted import Cases, Weighted, restoring

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "FEW", "SPREAD", "Table", "check_choices", "evaluate", "parts_of"]

COLUMNS = (
    *("split", "fold", "level", "group", "class", "threshold", "metric"),
    *("value", "low", "high", "n", "interval", "note"),
)

#: The fold of rows that tell how single folds differ, which is no interval.
SPREAD = "folds"

#: Fewer groups of a class leave intervals rough; see the page on evaluation.
FEW = 20

#: Numbers in one block of weights of groups: 32 MiB.
_BLOCK = 2**22


def evaluate(
    predictions: Predictions,
    thresholds: Sequence[Threshold] = (),
    *,
    prior: Sequence[float] | None = None,
    prevalence: Sequence[float] = (),
    method: Method = "t",
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute every metric with its 95 % interval, resampled by group.

    The rows of one model alone have its fold as `fold` ("0", "1", ...), those of the mean over
    folds "mean", and pooled ones "all". There are pooled rows where no record was predicted
    by two folds, and rows of single folds where there are several. Rows with "folds" as `fold` are the mean over
    single folds, from one standard deviation below it to one above: they tell how folds differ, and are no intervals,
    since folds share their training records (Bengio and Grandvalet 2004).

    Of several repeats, the folds of each are pooled on their own, since each has predictions of
    its own for the same record. These rows have "repeat 0", "repeat 1", ... as `fold`, and the "all" row is
    the mean of their values: what one division gives, on average over divisions. Its interval
    draws groups (records without groups) with all their predictions in all repeats at once, and takes the mean
    over the repeats of each resample; so more repeats make it steadier, but never narrower than one
    set of records allows. It does not tell how the divisions differ: the rows of the repeats do.

    How an interval is made stands in `interval`, as `limits` says; it is NaN, with the reason in `note`, where there
    are fewer than two groups, where over 5 % of the resamples lack a class, and where all resamples agree on a value
    that is no share of records. A value that is not defined is NaN as well, with the reason.

    Args:
        predictions: N records of one split, from one model or more.
        thresholds: Fitted ones of every model that made a prediction (`fit_thresholds`). Each
            record is held against the threshold of its own model.
        prior: (K,) how frequent each class is in the population, where that is not as in the
            records: each record then counts by the share of its class there over that here.
        prevalence: Shares of the positive class of two at which predictive values are wanted besides (by Bayes' rule);
            the metrics are then `ppv@0.01` and `npv@0.01`.
        method: How intervals are made.
        resamples: How often groups are drawn for the intervals; 0 leaves them NaN.
        seed: Of the draws.

    Returns:
        One row per value: split, fold, level ("image"), group ("", for all), class ("" for all), threshold (the
        rule, "" where the most probable class counts, each of several labels from 0.5, or none is decided), metric,
        value, low, high, n, the number of different records (of the class, in rows of one), interval and note.

    Raises:
        ConfigError: if an option has a wrong value or a model has no threshold of some rule.
    """
    import pandas as pd

    check_choices(predictions, prevalence=prevalence, method=method, resamples=resamples)
    _check_prior(predictions, prior)
    rows: list[dict[str, Any]] = []
    for fold, part in parts_of(predictions):
        table = Table.of(part, thresholds, prior=prior, prevalence=prevalence)
        rows += [{"fold": fold, **row} for row in table.rows(method, resamples, seed)]
    return _with_spread(pd.DataFrame(rows, columns=list(COLUMNS)))


def check_choices(
    predictions: Predictions, *, prevalence: Sequence[float] = (), method: str = "t", resamples: int = 1000
) -> None:
    """Refuse wrong options.

    Args:
        predictions: What is evaluated.
        prevalence: As in `evaluate`.
        method: As in `evaluate`.
        resamples: As in `evaluate`.

    Raises:
        ConfigError: if an option has a wrong value.
    """
    if resamples < 0:
        raise options.rejected("resamples", "be a whole number of at least 0", resamples)
    if method not in {"t", "percentile", "bca"}:
        raise options.rejected("method", "be 't', 'percentile' or 'bca'", method)
    if prevalence and predictions.positive is None:
        raise options.rejected("prevalence", "be left out where there is no positive class of two", prevalence)
    if any(not 0 < one < 1 for one in prevalence):
        raise options.rejected("prevalence", "be between 0 and 1", prevalence)


def _check_prior(predictions: Predictions, prior: Sequence[float] | None) -> None:
    if prior is None:
        return
    if predictions.multilabel:
        raise options.rejected("prior", "be left out where records may have several labels", prior)
    if len(prior) != predictions.num_classes or min(prior) <= 0 or abs(sum(prior) - 1) > 1e-6:
        rule = f"be {predictions.num_classes} shares above 0 that sum to 1, one a class"
        raise options.rejected("prior", rule, prior)


def parts_of(predictions: Predictions) -> Iterator[tuple[str, Predictions]]:
    """Divide predictions by the models that made them.

    Args:
        predictions: N records, from one model or more.

    Yields:
        What stands in `fold`, and the predictions of these rows, as `evaluate` says.
    """
    single = predictions.fold != MEAN
    repeats, folds = np.unique(predictions.repeat[single]), np.unique(predictions.fold[single])
    of_repeats = [predictions.take(single & (predictions.repeat == repeat)) for repeat in repeats]
    if of_repeats and all(map(_distinct, of_repeats)):
        yield "all", predictions.take(single)
        if len(repeats) > 1:
            yield from ((f"repeat {repeat}", part) for repeat, part in zip(repeats, of_repeats, strict=True))
    if not single.all():
        yield "mean", predictions.take(~single)
    if len(folds) > 1:
        for fold in folds:
            yield model_of(fold), predictions.take(predictions.fold == fold)


def _distinct(part: Predictions) -> bool:
    if len(np.unique(part.fold)) == 1:
        return True
    by_fold = sum(len(np.unique(part.ids[part.fold == fold])) for fold in np.unique(part.fold))
    return by_fold == len(np.unique(part.ids))


@attrs.frozen(kw_only=True, eq=False)
class _Repeat:
    """The predictions that belong to one repeat.

    Attributes:
        cases: Of each threshold rule, the predictions as it decides them.
    """

    cases: Mapping[str, Cases]

    @classmethod
    def of(
        cls, part: Predictions, repeat: int, thresholds: Sequence[Threshold], prior: Sequence[float] | None
    ) -> _Repeat:
        rows = np.flatnonzero(part.repeat == repeat)
        own = part if len(rows) == len(part) else part.take(rows)
        owners = _owners(part)
        rules = ["", *dict.fromkeys(threshold.rule for threshold in thresholds)]
        shared: dict[str, Any] = {
            "labels": own.labels,
            "probs": own.probs,
            "positive": 1 if own.positive_index is None else own.positive_index,
            "owners": owners[rows],
            "num_groups": int(owners.max()) + 1,
            "scale": None if prior is None else restoring(own.labels, prior),
        }
        return cls(cases={rule: Cases(preds=decisions(own, thresholds, rule), **shared) for rule in rules})

    def measured(self, lines: Sequence[Line], weights: Floats) -> Floats:
        return measured(lines, {rule: Weighted(cases=case, weights=weights) for rule, case in self.cases.items()})


# Without groups a record of several repeats is drawn with all its predictions.
def _owners(part: Predictions) -> Ints:
    repeated = len(np.unique(part.repeat)) > 1
    return units(part.ids if part.groups is None and repeated else part.groups, len(part))


@attrs.frozen(kw_only=True, eq=False)
class Table:
    """The rows of one part: its lines, and the repeats that each value is the mean of."""

    part: Predictions
    each: Sequence[_Repeat]
    lines: Sequence[Line]

    @classmethod
    def of(
        cls,
        part: Predictions,
        thresholds: Sequence[Threshold],
        *,
        prior: Sequence[float] | None = None,
        prevalence: Sequence[float] = (),
    ) -> Table:
        """Prepare the rows of predictions, of which no repeat has a record twice.

        Args:
            part: N predictions.
            thresholds: As in `evaluate`.
            prior: As in `evaluate`.
            prevalence: As in `evaluate`.

        Returns:
            The table.
        """
        each = [_Repeat.of(part, repeat, thresholds, prior) for repeat in np.unique(part.repeat)]
        return cls(part=part, each=each, lines=lines_of(part, list(each[0].cases), prevalence))

    @property
    def num_groups(self) -> int:
        """G, how many groups are drawn from."""
        return self.each[0].cases[""].num_groups

    def support(self) -> Support:
        """Count what stands behind each row.

        Returns:
            The support of the M lines.
        """
        return Support.of(self.lines, [repeat.cases for repeat in self.each])

    def values(self, weights: Floats) -> Floats:
        """Compute every row for resamples.

        Args:
            weights: (B, G) how often each group was drawn.

        Returns:
            (B, M), the mean of what the repeats say.
        """
        return np.mean([repeat.measured(self.lines, weights) for repeat in self.each], axis=0)

    def rows(self, method: Method, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
        """Compute every row with its interval.

        Args:
            method: As in `evaluate`.
            resamples: As in `evaluate`.
            seed: As in `evaluate`.

        Yields:
            The columns of `evaluate` but fold.
        """
        num_groups = self.num_groups
        values = self.values(np.ones((1, num_groups)))[0]
        support = self.support()
        found = self._resampled(values, support, method, resamples, seed) if num_groups > 1 and resamples else None
        nothing = np.full(len(values), np.nan), np.full(len(values), np.nan), [""] * len(values)
        low, high, kinds = nothing if found is None else limits(found, method)
        part, counts = self.part, self.counts()
        for at, line in enumerate(self.lines):
            row = {"value": values[at], "low": low[at], "high": high[at], "n": counts[line.of], "interval": kinds[at]}
            note = "" if resamples or np.isnan(values[at]) else "no interval was asked for"
            flat = found is not None and bool(found.flat[at])
            note = note or self._note(line, row, counts, int(support.groups[at]), flat=flat)
            name = "" if line.of is None else part.classes[line.of]
            described = {"class": name, "threshold": line.threshold, "metric": line.name, "note": note}
            yield {"split": part.split, "level": "image", "group": "", **described, **row}

    def _resampled(self, values: Floats, support: Support, method: Method, resamples: int, seed: int) -> Resampled:
        num_groups = self.num_groups
        rows = max(1, _BLOCK // num_groups)
        parts = left_out(num_groups, seed=seed, rows=rows) if method == "bca" else ()
        return Resampled(
            values=values,
            drawn=np.concatenate(
                [self.values(w) for w in drawn(num_groups, resamples=resamples, seed=seed, rows=rows)]
            ),
            left=np.concatenate([self.values(w) for w in parts]) if method == "bca" else None,
            shares=support.shares,
            records=support.records,
            groups=support.groups,
            spans=np.array([span(line.metric, self.each[0].cases[""]) for line in self.lines]),
        )

    def counts(self) -> dict[int | None, int]:
        """Count different records.

        Returns:
            How many there are of each class, and in all (None).
        """
        part = self.part
        if len(self.each) > 1:
            part = part.take(np.unique(part.ids, return_index=True)[1])
        return {None: len(part), **{at: int(part.has(at).sum()) for at in range(part.num_classes)}}

    def _note(
        self, line: Line, row: Mapping[str, Any], counts: Mapping[int | None, int], groups: int, *, flat: bool
    ) -> str:
        whose = f"{groups} {'record' if self.part.groups is None else 'group'}{'' if groups == 1 else 's'}"
        if np.isnan(row["value"]):
            return reason(line, self.part, counts)
        if row["interval"]:
            return f"rough interval: {whose}" if groups < FEW else ""
        if flat and groups > 1:
            return "no interval: all resamples agree"
        return f"no interval: too few groups ({whose})"


def _with_spread(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    single = table[table["fold"].str.isdecimal()]
    if single.empty:
        return table
    keys = [name for name in COLUMNS[:7] if name != "fold"]
    found = single.groupby(keys, sort=False)["value"].agg(["mean", "std", "count"])
    pooled = table[table["fold"].isin(["all", "mean"])].groupby(keys)["n"].max()
    spread = pd.DataFrame({"value": found["mean"], "low": found["mean"] - found["std"]})
    spread["high"] = found["mean"] + found["std"]
    spread["n"] = pooled.reindex(found.index).fillna(single.groupby(keys)["n"].max()).astype(int)
    spread["note"] = [f"mean of {n} folds, one standard deviation each way: no interval" for n in found["count"]]
    spread = spread.reset_index().assign(fold=SPREAD, interval="spread")
    return pd.concat([table, spread[list(COLUMNS)]], ignore_index=True)
