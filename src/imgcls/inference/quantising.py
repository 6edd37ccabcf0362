"""Networks in integers of 8 bits, fitted on validation images, and what that costs."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.folders import whole
from imgcls.core.progress import progress
from imgcls.core.spacing import evenly
from imgcls.evaluation.decisions import decisions
from imgcls.evaluation.evaluate import evaluate
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.thresholds import Threshold
from imgcls.inference.explaining import Subject
from imgcls.inference.exported import Answer, Runner

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Pair", "measured_cost", "quantise", "told_by_both"]

#: On so many images the ranges of values are found.
_CALIBRATION = 128

#: Records predicted at a time.
_BATCH = 32

#: Weights of the head: it takes no time, and in 8 bits probabilities would tie.
_HEAD = re.compile(r"parts\.\d+\.head\.")

#: Where rows of one metric are the same.
_KEYS = ["split", "fold", "class", "threshold", "metric"]


def quantise(file: Path, subject: Subject) -> None:
    """Rewrite an ONNX file so that its convolutions and matrix products take integers of 8 bits.

    Static quantisation of onnxruntime, weights by channel; ranges of values are the smallest and largest ones on images
    of the subject.

    Args:
        file: The file.
        subject: Records; some, evenly spaced, are used.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    chosen = evenly(len(subject.predictions), _CALIBRATION)
    prepared = file.with_name("prepared.onnx")
    try:
        quant_pre_process(file, prepared, skip_symbolic_shape=True)
        with whole(file) as temporary:
            quantization.quantize_static(
                prepared,
                temporary,
                _reader(subject.take(chosen)),
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                nodes_to_exclude=_head_nodes(prepared),
                per_channel=True,
            )
    finally:
        prepared.unlink(missing_ok=True)


def _head_nodes(file: Path) -> list[str]:
    import onnx

    nodes = onnx.load(file).graph.node
    return [node.name for node in nodes if any(_HEAD.match(name) for name in node.input)]


def _reader(subject: Subject) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.batches = _batches(subject)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            found = next(self.batches, None)
            return None if found is None else {"pixels": found}

    return Reader()


def _batches(subject: Subject) -> Iterator[NDArray[Any]]:
    places = subject.positions.tolist()
    for start in range(0, len(places), _BATCH):
        yield np.stack([subject.pixels(position) for position in places[start : start + _BATCH]])


@attrs.frozen(kw_only=True, eq=False)
class Pair:
    """What the model said before and after, of N records that it did not train on.

    Attributes:
        before: The predictions of the model.
        after: Those of what quantisation made of it.
        features: The embeddings after, (N, D); of records that the mean predicts those of the first model.
    """

    before: Predictions
    after: Predictions
    features: NDArray[np.float32]


def told_by_both(before: Runner, after: Runner, trial: Subject, folds: Sequence[int]) -> Pair:
    """Ask the model before and after, for each record the fold that did not train on it.

    Args:
        before: The model.
        after: What quantisation made of it.
        trial: N records.
        folds: The folds whose models these are.

    Returns:
        What both say.
    """
    fold = trial.predictions.fold
    asked = np.where(fold == MEAN, len(folds), np.searchsorted(folds, fold))
    parts: list[list[NDArray[Any]]] = [[], [], []]
    with progress(f"int8 on {trial.predictions.split} records", len(fold)) as advance:
        for number, pixels in enumerate(_batches(trial)):
            own = asked[number * _BATCH : number * _BATCH + len(pixels)]
            first, second = before(pixels), after(pixels)
            found = [_of_model(first, own), _of_model(second, own), _own(second.embeddings, own % len(folds))]
            for part, values in zip(parts, found, strict=True):
                part.append(values)
            advance(len(pixels))
    one, two, features = map(np.concatenate, parts)
    return Pair(before=_told(trial.predictions, one), after=_told(trial.predictions, two), features=features)


# The mean stands behind the models.
def _of_model(answer: Answer, asked: NDArray[np.int64]) -> NDArray[Any]:
    return _own(np.concatenate([answer.each, answer.probs[:, None]], axis=1), asked)


def _own(values: NDArray[Any], asked: NDArray[np.int64]) -> NDArray[Any]:
    found: NDArray[Any] = values[np.arange(len(values)), asked]
    return found


def measured_cost(
    pairs: Sequence[Pair], trials: Sequence[Subject], thresholds: Sequence[Threshold]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Compare the model before and after, each record predicted by models that did not train on it.

    Args:
        pairs: What both say of each trial.
        trials: Records of splits, with the thresholds before.
        thresholds: Those after.

    Returns:
        A row a metric with its value and 95 % interval before and after; and the largest and mean difference of
        probabilities, the share of decisions that changed, and how many records there were.
    """
    import pandas as pd

    tables, gaps, changed = [], [], []
    for pair, trial in zip(pairs, trials, strict=True):
        sides = ((pair.before, trial.thresholds), (pair.after, thresholds))
        tables.append(_compared(sides, trial.saved.decision))
        gaps.append(np.abs(pair.before.probs - pair.after.probs))
        one, other = (decisions(found, cuts, trial.saved.decision) for found, cuts in sides)
        changed.append((one != other).reshape(len(one), -1).any(axis=1))
    gap, flipped = np.concatenate(gaps), np.concatenate(changed)
    cost = {"max_difference": gap.max(), "mean_difference": gap.mean(), "changed_decisions": flipped.mean()}
    table = pd.concat(tables)
    found = {name: float(value) for name, value in cost.items()} | {"records": len(gap)}
    return table, found | {"metrics": _main(table, trials[0].saved.decision)}


# The numbers of all records, of the metrics that people ask for first.
def _main(table: pd.DataFrame, decision: str) -> list[dict[Hashable, Any]]:
    wanted = {"roc_auc": "", "average_precision": "", "balanced_accuracy": decision, "ece": ""}
    rows = table[(table["class"] == "") & table["fold"].isin(["all", "mean"])]
    rows = rows[rows["metric"].map(wanted) == rows["threshold"]]
    return list(rows.drop(columns=["fold", "class"]).astype(object).where(rows.notna(), None).to_dict("records"))


# The logits are those that give the probabilities back.
def _told(predictions: Predictions, probs: NDArray[Any]) -> Predictions:
    logits = np.log(np.maximum(probs, np.finfo(np.float32).tiny))
    return attrs.evolve(predictions, probs=probs, logits=logits)


def _compared(sides: Sequence[tuple[Predictions, Sequence[Threshold]]], rule: str) -> pd.DataFrame:
    columns = [*_KEYS, "value", "low", "high", "n"]
    one, other = (evaluate(found, [cut for cut in cuts if cut.rule == rule])[columns] for found, cuts in sides)
    return one.merge(other.drop(columns="n"), on=_KEYS, suffixes=("_before", "_int8"))
