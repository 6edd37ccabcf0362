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
from imgcls.evaluation.decisions import decisions
from imgcls.evaluation.evaluate import evaluate
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.inference.explaining import Subject
from imgcls.inference.exported import Runner

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["measured_cost", "quantise"]

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

    chosen = np.unique(np.linspace(0, len(subject.predictions) - 1, _CALIBRATION).astype(np.int64))
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


def measured_cost(
    before: Runner, after: Runner, trials: Sequence[Subject], folds: Sequence[int]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Compare the model before and after, each record predicted by models that did not train on it.

    Args:
        before: The model.
        after: What quantisation made of it.
        trials: Records of splits.
        folds: The folds whose models these are.

    Returns:
        A row a metric with its value and 95 % interval before and after; and the largest and mean difference of
        probabilities, the share of decisions that changed, and how many records there were.
    """
    import pandas as pd

    tables, gaps, changed = [], [], []
    for trial in trials:
        one, other = _both(before, after, trial, folds)
        tables.append(_compared(one, other, trial))
        gaps.append(np.abs(one.probs - other.probs))
        pair = [decisions(found, trial.thresholds, trial.saved.decision) for found in (one, other)]
        changed.append((pair[0] != pair[1]).reshape(len(one), -1).any(axis=1))
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


def _both(before: Runner, after: Runner, trial: Subject, folds: Sequence[int]) -> list[Predictions]:
    fold = trial.predictions.fold
    place = {number: at for at, number in enumerate(folds)}
    parts: list[list[NDArray[Any]]] = [[], []]
    with progress(f"int8 on {trial.predictions.split} records", len(fold)) as advance:
        for number, pixels in enumerate(_batches(trial)):
            rows = fold[number * _BATCH : number * _BATCH + len(pixels)].tolist()
            for part, run in zip(parts, (before, after), strict=True):
                mean, each = run(pixels)
                part.append(np.stack([mean[i] if f == MEAN else each[i, place[f]] for i, f in enumerate(rows)]))
            advance(len(pixels))
    return [_told(trial.predictions, np.concatenate(part)) for part in parts]


# The logits are those that give the probabilities back.
def _told(predictions: Predictions, probs: NDArray[Any]) -> Predictions:
    logits = np.log(np.maximum(probs, np.finfo(np.float32).tiny))
    return attrs.evolve(predictions, probs=probs, logits=logits)


def _compared(before: Predictions, after: Predictions, trial: Subject) -> pd.DataFrame:
    thresholds = [one for one in trial.thresholds if one.rule == trial.saved.decision]
    columns = [*_KEYS, "value", "low", "high", "n"]
    one, other = (evaluate(found, thresholds)[columns] for found in (before, after))
    return one.merge(other.drop(columns="n"), on=_KEYS, suffixes=("_before", "_int8"))
