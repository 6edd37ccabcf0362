"""Calibration: probabilities that mean what they say, fitted on validation records, one for each model.

What a network calls 0.9 is right less often than nine times in ten (Guo et al. 2017, "On calibration of modern neural
networks"). Three ways mend that; each maps the logits of a model to new probabilities.

Records that a calibration was fitted on look better calibrated by it than others. So where validation records are
judged, or fit thresholds, each is calibrated by what the records of other groups gave (`cross_calibrated`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from imgcls.core import config, options
from imgcls.core.errors import DataError
from imgcls.core.folders import read_json, write_json
from imgcls.core.randomness import generator
from imgcls.evaluation.arrays import Bools, Floats, Ints
from imgcls.evaluation.intervals import units
from imgcls.evaluation.predictions import Predictions, probabilities
from imgcls.evaluation.weighted import restoring

__all__ = [
    "METHODS",
    "Calibration",
    "calibrate",
    "cross_calibrated",
    "fit_calibration",
    "load_calibrations",
    "save_calibrations",
]

#: What there is.
METHODS = ("temperature", "platt", "isotonic")

#: The temperatures that are looked at; beyond them nothing is learnt from the logits.
_TEMPERATURES = (0.01, 100.0)

#: In how many parts validation records are divided to calibrate each by the others.
_PARTS = 5


def _rows(given: Any) -> Any:
    return tuple(tuple(map(float, row)) for row in given)


@attrs.frozen(kw_only=True)
class Calibration:
    """How the logits of a model become probabilities.

    Attributes:
        method: "temperature": the logits are divided by one number (of several labels, one a class). "platt": the
            log-odds of each class go through a line (Platt 1999). "isotonic": through a rising step curve (Zadrozny and
            Elkan 2002), which never promises more than (n + 1) / (n + 2) for the n records it was fitted on.
        model: Which model it is for: a fold's ("0", "1", ...) or "mean".
        num_records: How many records it was fitted on.
        curves: For each curve what describes it: (slope, offset) of a line, or the log-odds and then as many
            probabilities. One curve for all classes, or one for each of more than two classes or several labels.
        nll: The mean cross-entropy on these records in nats, before and after.
    """

    method: str = attrs.field(validator=options.choice(*METHODS))
    model: str = attrs.field(validator=options.instance(str))
    num_records: int = attrs.field(validator=options.count())
    curves: tuple[tuple[float, ...], ...] = attrs.field(converter=_rows)
    nll: tuple[float, float] = attrs.field(converter=options.texts)

    @property
    def temperature(self) -> float | None:
        """By what logits are divided; above 1 the model was too sure of itself. None for other methods or several."""
        return 1 / self.curves[0][0] if self.method == "temperature" and len(self.curves) == 1 else None

    def probs(self, logits: npt.ArrayLike, *, multilabel: bool = False) -> Floats:
        """Turn logits into calibrated probabilities.

        Args:
            logits: (N, K), or (N, 1) of a binary head with one logit.
            multilabel: Whether a record may have several labels.

        Returns:
            (N, K), as `probabilities` gives them.
        """
        values = np.asarray(logits, dtype=np.float64)
        if self.method == "temperature":
            return probabilities(values * [curve[0] for curve in self.curves], multilabel=multilabel)
        odds = log_odds(values, multilabel=multilabel)
        columns = [_curve(self.method, curve, column) for curve, column in zip(self.curves, odds.T, strict=True)]
        return _joined(np.stack(columns, axis=1), multilabel=multilabel)


def _curve(method: str, curve: tuple[float, ...], odds: Floats) -> Floats:
    if method == "platt":
        return probabilities((curve[0] * odds + curve[1])[:, None])[:, 1]
    half = len(curve) // 2
    return np.interp(odds, curve[:half], curve[half:])


# Of two classes there is one curve; of more, the answers of the classes are made to sum to one.
def _joined(columns: Floats, *, multilabel: bool) -> Floats:
    if multilabel:
        return columns
    if columns.shape[1] == 1:
        return np.concatenate([1 - columns, columns], axis=1)
    joined: Floats = columns / columns.sum(axis=1, keepdims=True)
    return joined


def log_odds(logits: npt.ArrayLike, *, multilabel: bool = False) -> Floats:
    """Compute what speaks for a class against all others.

    Args:
        logits: (N, K), or (N, 1) of a binary head with one logit.
        multilabel: Whether a record may have several labels.

    Returns:
        log(p / (1 - p)): of the class of index 1 of two, (N, 1); of each of more classes or several labels, (N, K).
    """
    values = np.asarray(logits, dtype=np.float64)
    if multilabel or values.shape[1] == 1:
        return values
    if values.shape[1] == 2:
        return values[:, 1:] - values[:, :1]
    top = values.max(axis=1, keepdims=True)
    powers = np.exp(values - top)
    others = np.stack([np.delete(powers, k, axis=1).sum(axis=1) for k in range(values.shape[1])], axis=1)
    odds: Floats = values - top - np.log(np.maximum(others, np.finfo(np.float64).tiny))
    return odds


def fit_calibration(
    predictions: Predictions, method: str, *, model: str, prior: Sequence[float] | None = None
) -> Calibration:
    """Fit a calibration.

    Args:
        predictions: Of validation records, with the logits of the model.
        method: `"temperature"`, `"platt"` or `"isotonic"`.
        model: Whose logits these are.
        prior: (K,) how frequent the classes are in the population, as in `evaluate`.

    Returns:
        The calibration.

    Raises:
        DataError: if all records are of one class: then any promise of that class is kept.
    """
    several = [predictions.has(index) for index in range(predictions.num_classes)]
    if not any(one.any() and not one.all() for one in several):
        raise DataError(
            f"'predictions' must have records of two classes to calibrate, got {len(predictions)} of one; "
            f"give the {predictions.split} part others"
        )
    counts = restoring(predictions.labels, prior)
    curves = _FITS[method](predictions, counts)
    found = Calibration(method=method, model=model, num_records=len(predictions), curves=curves, nll=(0.0, 0.0))
    before = probabilities(predictions.logits, multilabel=predictions.multilabel)
    after = found.probs(predictions.logits, multilabel=predictions.multilabel)
    nll = (_nll(before, predictions.labels, counts), _nll(after, predictions.labels, counts))
    return attrs.evolve(found, nll=nll)


def _nll(probs: Floats, labels: Ints, counts: Floats) -> float:
    hit = np.where(labels == 1, probs, 1 - probs) if labels.ndim == 2 else probs[np.arange(len(labels)), labels]
    losses = -np.log(np.maximum(hit, 1e-12))
    return float(np.average(losses.reshape(len(labels), -1).mean(axis=1), weights=counts))


def _temperatures(predictions: Predictions, counts: Floats) -> list[tuple[float, float]]:
    logits, labels = predictions.logits.astype(np.float64), predictions.labels
    if not predictions.multilabel:
        return [(_inverse_temperature(logits, labels, counts), 0.0)]
    columns = zip(logits.T, labels.T, strict=True)
    return [(_inverse_temperature(column[:, None], marks, counts), 0.0) for column, marks in columns]


# The cross-entropy is convex in the inverse temperature, so one search finds it.
def _inverse_temperature(logits: Floats, labels: Ints, counts: Floats) -> float:
    from scipy.optimize import minimize_scalar

    if len(np.unique(labels)) < 2:
        return 1.0
    low, high = (-np.log(end) for end in reversed(_TEMPERATURES))
    found = minimize_scalar(
        lambda log: _nll(probabilities(logits * np.exp(log)), labels, counts),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(_restrained(logits, counts, low, float(found.x))))


# Where every record is right the cross-entropy falls for ever. So no more is promised than that one of n + 2 is wrong,
# as with isotonic steps and the targets of Platt.
def _restrained(logits: Floats, counts: Floats, low: float, log: float) -> float:
    from scipy.optimize import brentq

    def excess(log: float) -> float:
        promised = probabilities(logits * np.exp(log)).max(axis=1)
        return float(np.average(promised, weights=counts)) - (len(logits) + 1) / (len(logits) + 2)

    if excess(log) <= 0:
        return log
    return float(brentq(excess, low, log, xtol=1e-9)) if excess(low) < 0 else low


def _each(fit: Callable[[Floats, Bools, Floats], tuple[float, ...]]) -> Callable[..., list[tuple[float, ...]]]:
    def curves(predictions: Predictions, counts: Floats) -> list[tuple[float, ...]]:
        odds = log_odds(predictions.logits, multilabel=predictions.multilabel)
        classes = [1] if odds.shape[1] == 1 else range(odds.shape[1])
        return [fit(column, predictions.has(k), counts) for column, k in zip(odds.T, classes, strict=True)]

    return curves


# A maximum of likelihood towards the targets of Platt (1999), which keep a slope finite where classes are apart.
def _line(odds: Floats, positive: Bools, counts: Floats) -> tuple[float, float]:
    from scipy.optimize import minimize

    yes, no = counts[positive].sum(), counts[~positive].sum()
    if not yes or not no:
        return 1.0, 0.0
    targets = np.where(positive, (yes + 1) / (yes + 2), 1 / (no + 2))

    def loss(line: Floats) -> tuple[float, Floats]:
        values = line[0] * odds + line[1]
        excess = counts * (probabilities(values[:, None])[:, 1] - targets)
        return float(counts @ (np.logaddexp(0, values) - targets * values)), np.array([excess @ odds, excess.sum()])

    slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", options={"gtol": 1e-8}).x
    return float(slope), float(offset)


def _steps(odds: Floats, positive: Bools, counts: Floats) -> tuple[float, ...]:
    from sklearn.isotonic import IsotonicRegression

    edge = 1 / (len(odds) + 2)  # so that nothing is certain
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
    fitted.fit(odds, positive.astype(np.float64), sample_weight=counts)
    places, values = fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist()
    return (*places, *values)


_FITS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"temperature": _temperatures, "platt": _each(_line), "isotonic": _each(_steps)}
)


def calibrate(predictions: Predictions, calibrations: Sequence[Calibration]) -> Predictions:
    """Calibrate predictions, each by the calibration of its own model.

    Args:
        predictions: N records with the logits of their models.
        calibrations: One a model that made predictions.

    Returns:
        The same with other probabilities; the logits stay those of the models.

    Raises:
        DataError: if a model has no calibration.
    """
    known, probs = {one.model: one for one in calibrations}, np.empty_like(predictions.probs)
    for fold in np.unique(predictions.fold):
        if str(fold) not in known:
            raise DataError(f"'calibrations' must have one of model {str(fold)!r}, got those of {sorted(known)}")
        rows = predictions.fold == fold
        probs[rows] = known[str(fold)].probs(predictions.logits[rows], multilabel=predictions.multilabel)
    return attrs.evolve(predictions, probs=probs)


def cross_calibrated(
    predictions: Predictions, method: str, *, prior: Sequence[float] | None = None, seed: int = 0
) -> Predictions:
    """Calibrate validation records by each other: groups in five parts, each by what the other four gave.

    Args:
        predictions: N validation records of one model.
        method: As for `fit_calibration`.
        prior: As for `fit_calibration`.
        seed: Of the division.

    Returns:
        The same with other probabilities. Where the records are too few to be divided so, they are calibrated by all.
    """
    owners = units(predictions.groups, len(predictions))
    parts = generator(seed, "calibration").permutation(owners.max() + 1)[owners] % _PARTS
    probs = np.empty_like(predictions.probs)
    for part in np.unique(parts):
        held = parts == part
        others = predictions.take(~held) if not held.all() and _apart(predictions, ~held) else predictions
        found = fit_calibration(others, method, model="", prior=prior)
        probs[held] = found.probs(predictions.logits[held], multilabel=predictions.multilabel)
    return attrs.evolve(predictions, probs=probs)


# Classes that the whole has must be in the rest as well, or it would be taken for another population.
def _apart(predictions: Predictions, rest: Bools) -> bool:
    marks = [predictions.has(index) for index in range(predictions.num_classes)]
    return all(not mark.any() or mark[rest].any() for mark in marks) and any(
        mark[rest].any() and not mark[rest].all() for mark in marks
    )


def save_calibrations(path: Path, calibrations: Sequence[Calibration]) -> None:
    """Write calibrations.

    Args:
        path: The JSON file.
        calibrations: Those of the models of a run.
    """
    write_json(path, [attrs.asdict(one) for one in calibrations])


def load_calibrations(path: Path) -> tuple[Calibration, ...]:
    """Read the calibrations of a run.

    Args:
        path: Its `calibration.json`.

    Returns:
        One a model; none where the run has none.
    """
    if not path.exists():
        return ()
    return tuple(config.build(Calibration, item, path=path.name) for item in read_json(path))
