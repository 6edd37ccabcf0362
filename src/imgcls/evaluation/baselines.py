"""What is reached without the model: numbers that a result means little without.

Each baseline trains on what the model of a fold trained on and is judged on the same records, so both are compared on
the same resamples of groups (a paired bootstrap).

- `class prior`: how frequent each class is.
- `looks`: size, brightness and border of the image alone (logistic regression).
- `file name`: short pieces of the name of the file, without its folders (logistic regression).
- `linear probe`: the features of a network that was not trained on this set (logistic regression).
- `permuted labels`: a linear model of the richest of these facts after labels were dealt out by chance, 20 times; its
  interval is over these deals and says what chance reaches.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from imgcls.core.randomness import generator
from imgcls.evaluation.arrays import Floats, Ints, Texts
from imgcls.evaluation.by_record import record_intervals
from imgcls.evaluation.metrics import measure
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.weighted import Cases

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "Known", "baselines", "judged_once", "linear_probe", "warnings_of"]

COLUMNS = (
    *("baseline", "metric", "value", "low", "high"),
    *("model", "difference", "difference_low", "difference_high", "n", "split"),
)

#: A trivial baseline whose area is surely above this tells the classes apart.
_ALARM = 0.65

#: How often labels are dealt out, and how strongly the linear model of these deals is held back.
_DEALS, _RIDGE = 20, 1.0

#: What trivial baselines see, in words.
_SEEN = {"looks": "Size, brightness and border of the images", "file name": "The names of the files"}


@attrs.frozen(kw_only=True, eq=False)
class Known:
    """What is known of the records of a set without the model.

    Attributes:
        ids: (N,) the records.
        labels: (N,) or (N, K), as in `Predictions`.
        looks: (N, D) as `looks` gives them, or None.
        names: (N,) names of files, or None.
        features: (N, F) of a network that was not trained on the set, or None.
    """

    ids: Texts
    labels: Ints
    looks: Floats | None = None
    names: Texts | None = None
    features: Floats | None = None


def linear_probe(facts: Floats, labels: Ints, others: Floats, *, num_classes: int) -> Floats:
    """Fit a linear model to what is known of records and ask it about others (logistic regression).

    Args:
        facts: (N, F) of the records that it is fitted to, such as features of a network.
        labels: (N,) or (N, K), as in `Predictions`.
        others: (M, F) of the others.
        num_classes: K.

    Returns:
        Probabilities (M, K).
    """
    return _line(facts, _dense(labels, num_classes), others)


def judged_once(predictions: Predictions) -> Predictions:
    """Take the predictions that baselines are compared with: those of the first of several repeats.

    Args:
        predictions: Those that a run reports.

    Returns:
        Each record once.
    """
    return predictions.take(predictions.repeat == predictions.repeat.min())


def baselines(
    model: Predictions,
    trained: Sequence[Ints],
    *,
    known: Known,
    tested: Known | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare a model with what is reached without it.

    Args:
        model: What the models said, each record once: of the fold that each record belongs to, or the mean of folds.
        trained: The positions in `known` that each fold trained on, by its number.
        known: What is known of the set.
        tested: What is known of the test set, where it is another one.
        resamples: How often groups are drawn for the intervals.
        seed: Of the draws, and of the permuted labels.

    Returns:
        A row for each baseline and metric: its `value` with `low` and `high` (95 %), that of the `model`, and their
        `difference` (above 0 where the model is better) with the ends of its interval on the same resamples.
    """
    import pandas as pd

    judged = known if tested is None else tested
    place = {name: at for at, name in enumerate(judged.ids.tolist())}
    rows = np.array([place[name] for name in model.ids.tolist()], dtype=np.int64)
    study = _Study(model=model, trained=trained, known=known, judged=judged, rows=rows, seed=seed)
    found = [row for name, guess in study.guesses() for row in _compared(model, name, guess, resamples, seed)]
    found += _dealt(model, study)
    table = pd.DataFrame(found).assign(n=len(np.unique(model.ids)), split=model.split)
    return table[list(COLUMNS)]


def _metrics(model: Predictions) -> tuple[str, str]:
    many = model.num_classes > 2 and not model.multilabel
    return "roc_auc", "accuracy" if many else "average_precision"


#: From what training records have and their labels to what is said of other records.
Fit = Callable[[Any, Ints, Any], Floats]


@attrs.frozen(kw_only=True, eq=False)
class _Study:
    """Which records each fold trained on, and which it is judged on."""

    model: Predictions
    trained: Sequence[Ints]
    known: Known
    judged: Known
    rows: Ints
    seed: int

    def guesses(self) -> Iterator[tuple[str, Floats]]:
        yield "class prior", self._guess("labels", _prior)
        for name, field, fit in (
            ("looks", "looks", _line),
            ("file name", "names", _pieces),
            ("linear probe", "features", _line),
        ):
            if getattr(self.known, field) is not None and getattr(self.judged, field) is not None:
                yield name, self._guess(field, fit)

    # As the model does: each record by its own fold, or by the mean of all.
    def _guess(self, field: str, fit: Fit) -> Floats:
        facts, others = getattr(self.known, field), getattr(self.judged, field)[self.rows]
        guess = np.zeros(self.model.probs.shape)
        for fold, train in enumerate(self.trained):
            here = np.isin(self.model.fold, [fold, MEAN])
            if here.any():
                said = fit(facts[train], _dense(self.known.labels[train], self.model.num_classes), others[here])
                guess[here] += said / np.where(self.model.fold[here] == MEAN, len(self.trained), 1)[:, None]
        return guess

    # The rich facts of a linear model, with labels that mean nothing.
    def deals(self) -> list[Floats]:
        field = "features" if self.known.features is not None and self.judged.features is not None else "looks"
        if getattr(self.known, field) is None or getattr(self.judged, field) is None:
            return []
        return [self._guess(field, _dealer(self.seed, number)) for number in range(_DEALS)]


# (N, K) of 0 and 1.
def _dense(labels: Ints, num_classes: int) -> Ints:
    return labels if labels.ndim == 2 else (labels[:, None] == np.arange(num_classes)).astype(np.int64)


def _prior(_: Any, labels: Ints, others: Any) -> Floats:
    return np.tile(labels.mean(axis=0), (len(others), 1))


def _line(facts: Floats, labels: Ints, others: Floats) -> Floats:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(facts)
    return _logistic(scaler.transform(facts), labels, scaler.transform(others), strength=0.1)


def _pieces(names: Texts, labels: Ints, others: Texts) -> Floats:
    from sklearn.feature_extraction.text import TfidfVectorizer

    pieces = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), min_df=2, max_features=5000, sublinear_tf=True)
    try:
        facts = pieces.fit_transform(names)
    except ValueError:  # no piece is in two names
        return _prior(names, labels, others)
    return _logistic(facts, labels, pieces.transform(others), strength=10.0)


# One question for each class; where records have one label, the answers are made to sum to one.
def _logistic(facts: Any, labels: Ints, others: Any, *, strength: float) -> Floats:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    said = np.tile(labels.mean(axis=0), (others.shape[0], 1))
    one = bool((labels.sum(axis=1) == 1).all())
    columns = [1] if one and labels.shape[1] == 2 else range(labels.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is good enough to compare with
        for k in columns:
            if 0 < labels[:, k].sum() < len(labels):
                fitted = LogisticRegression(C=strength, max_iter=200).fit(facts, labels[:, k])
                said[:, k] = fitted.predict_proba(others)[:, 1]
    if one and labels.shape[1] == 2:
        said[:, 0] = 1 - said[:, 1]
    return said / said.sum(axis=1, keepdims=True) if one else said


def _dealer(seed: int, number: int) -> Fit:
    def fit(facts: Floats, labels: Ints, others: Floats) -> Floats:
        dealt = labels[generator(seed, "permuted labels", number).permutation(len(labels))]
        middle, spread = facts.mean(axis=0), facts.std(axis=0) + 1e-9
        inside, outside = (facts - middle) / spread, (others - middle) / spread
        gram = inside.T @ inside + _RIDGE * len(facts) * np.eye(facts.shape[1]) / 100
        said: Floats = outside @ np.linalg.solve(gram, inside.T @ (dealt - dealt.mean(axis=0))) + dealt.mean(axis=0)
        return said

    return fit


def _cases(model: Predictions, scores: Floats) -> Cases:
    positive = 1 if model.positive_index is None else model.positive_index
    return Cases(labels=model.labels, probs=scores, positive=positive)


def _compared(model: Predictions, name: str, guess: Floats, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    metrics, both = _metrics(model), [_cases(model, scores) for scores in (guess, model.probs)]

    def statistic(weights: Floats) -> Floats:
        plain, own = ([measure(metric, cases, weights=weights) for metric in metrics] for cases in both)
        return np.stack([*plain, *own, *np.subtract(own, plain)], axis=1)

    values = statistic(np.ones((1, len(model))))[0]
    low, high = record_intervals(statistic, num_records=len(model), groups=model.groups, resamples=resamples, seed=seed)
    count = len(metrics)
    for at, metric in enumerate(metrics):
        gap = at + 2 * count
        ends = (values[at], low[at], high[at]), values[at + count], (values[gap], low[gap], high[gap])
        yield _row(name, metric, *ends)


def _dealt(model: Predictions, study: _Study) -> Iterator[dict[str, Any]]:
    deals = study.deals()
    for metric in _metrics(model) if deals else ():
        own = measure(metric, _cases(model, model.probs)).item()
        chance = np.array([measure(metric, _cases(model, scores)).item() for scores in deals])
        value, (low, high) = float(chance.mean()), np.quantile(chance, [0.025, 0.975]).tolist()
        yield _row("permuted labels", metric, (value, low, high), own, (own - value, own - high, own - low))


def _row(
    name: str, metric: str, value: tuple[float, float, float], own: float, gap: tuple[float, float, float]
) -> dict[str, Any]:
    numbers = dict(zip(COLUMNS[2:9], (*value, own, *gap), strict=True))
    return {"baseline": name, "metric": metric, **numbers}


def warnings_of(table: pd.DataFrame) -> list[str]:
    """Say in words what baselines give cause to doubt.

    Args:
        table: What `baselines` returns.

    Returns:
        A sentence that names the baselines which the model does not clearly beat, if there are any, and one for each
        trivial baseline that tells the classes apart.
    """
    areas = table[table["metric"] == "roc_auc"]
    # Not "at most 0": where nothing is known of the difference, nothing is clear.
    close = areas[~(areas["difference_low"] > 0)].to_dict("records")
    known = ", ".join(f"'{row['baseline']}' ({row['value']:.3f})" for row in close)
    lines = (
        [f"The model (area under the ROC curve {close[0]['model']:.3f}) does not clearly beat {known}"] if close else []
    )
    alarms = areas[areas["baseline"].isin(_SEEN) & (areas["low"] > _ALARM)]
    return lines + [_alarm({str(key): row[key] for key in row}) for row in alarms.to_dict("records")]


def _alarm(row: dict[str, Any]) -> str:
    return (
        f"{_SEEN[row['baseline']]} alone reach an area under the ROC curve of {row['value']:.3f} (95 % interval "
        f"{row['low']:.3f} to {row['high']:.3f}): the classes differ in how their images were taken or named, which "
        "the model may have learnt instead of what they show"
    )
