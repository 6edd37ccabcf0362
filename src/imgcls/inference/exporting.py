"""Write the models of a run for use elsewhere, in one folder, and check that they say the same there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.dumping import dump
from imgcls.core.errors import UnsupportedModelError
from imgcls.core.folders import reserved, whole
from imgcls.core.progress import say, warn
from imgcls.core.spacing import evenly
from imgcls.data.images import decode
from imgcls.evaluation.predictions import MEAN
from imgcls.evaluation.thresholds import Threshold
from imgcls.inference.after_quantising import Refit, limited, refitted
from imgcls.inference.caution import Caution
from imgcls.inference.explaining import Subject
from imgcls.inference.export_page import write_readme
from imgcls.inference.exported import FORMATS, GUARD, Description, ExportedModel, open_exported
from imgcls.inference.graph import Graph
from imgcls.inference.graph_files import write_onnx, write_program, write_weights
from imgcls.inference.predictor import Predictor
from imgcls.inference.quantising import measured_cost, quantise, told_by_both
from imgcls.inference.sealing import write_sums

__all__ = ["MAX_DIFFERENCE", "MAX_DISTANCE", "Order", "export", "of_fold", "single"]

#: How far a probability of the exported model may be from that of the run.
MAX_DIFFERENCE = 1e-4

#: And the distance of an image to the training data, in shares of it, or of the limit where that is larger.
MAX_DISTANCE = 1e-2

#: More changed decisions than this are a warning.
_MANY_CHANGED = 0.01

_WRITERS: Mapping[str, Callable[[Graph, Path, NDArray[Any]], None]] = MappingProxyType(
    {"onnx": write_onnx, "torch-export": write_program, "safetensors": write_weights}
)


@attrs.frozen(kw_only=True, eq=False)
class Order:
    """What is exported.

    Attributes:
        predictor: The models, with their guard, where they have one.
        folds: The folds whose models these are.
        format: As in `FORMATS`.
        pixels: Real images (N, H, W, C) on which the export is checked.
        origin: What is told of the run.
        card: Its model card, where it has one.
        caution: What else is said beside a decision.
        refit: For 8-bit integers, how they are fitted and judged; None leaves the numbers as they are.
        originals: Real images of their own sizes, (H, W, C) each, which the file is to take; empty leaves resizing
            outside.
    """

    predictor: Predictor
    folds: tuple[int, ...] = attrs.field(converter=tuple[int, ...])
    format: str = attrs.field(validator=options.choice(*FORMATS))
    pixels: NDArray[Any]
    origin: Mapping[str, Any]
    card: str | None = None
    caution: Caution = attrs.field(factory=Caution)
    refit: Refit | None = None
    originals: tuple[NDArray[Any], ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.refit is not None and self.format != "onnx":
            raise options.rejected("int8", f"be left out for the format {self.format!r}", True, "export 'onnx'")
        if self.originals and self.format == "safetensors":
            raise options.rejected("resize", f"be left out for {self.format!r}, which are weights alone", True)
        if self.originals and self.refit is not None:
            raise options.rejected(
                "resize", "be left out with 'int8', which would round the weights of the resize", True
            )


def single(predictor: Predictor, fold: int, thresholds: Sequence[Threshold]) -> Predictor:
    """Take the model of one fold.

    Args:
        predictor: The models of all folds.
        fold: Which.
        thresholds: Those of the run.

    Returns:
        The predictor with that model, its thresholds, its calibration and its guard.
    """
    guard = predictor.guard
    return attrs.evolve(
        predictor,
        models=predictor.models[fold : fold + 1],
        thresholds=tuple(one for one in thresholds if one.model == str(fold)),
        calibrations=predictor.calibrations[fold : fold + 1],
        guard=None if guard is None else attrs.evolve(guard, folds=guard.folds[fold : fold + 1]),
    )


def of_fold(subject: Subject, fold: int | None, *, limit: int) -> Subject:
    """Take records that were predicted without having been trained on.

    Args:
        subject: Records of a split.
        fold: The fold whose model is asked; None asks each record's own, or the mean.
        limit: How many at most, evenly spaced.

    Returns:
        The records.
    """
    found = subject.predictions
    if fold is not None:
        own = np.flatnonzero(np.isin(found.fold, [fold, MEAN]))
        subject, found = subject.take(own), found.take(own)
        asked = attrs.evolve(found, fold=np.full(len(found), fold), repeat=np.zeros(len(found)))
        subject = attrs.evolve(subject, predictions=asked)
    return subject.take(evenly(len(found), limit))


def export(out: Path, order: Order) -> Description:
    """Write an export, whole or not at all.

    Args:
        out: A new or empty folder.
        order: What to export.

    Returns:
        What it says of itself.

    Raises:
        UnsupportedModelError: if the network cannot be written in the format, or says something else there.
    """
    with reserved(out) as place, whole(place) as folder:
        folder.mkdir()
        about = _described(order)
        say(f"Writing {FORMATS[order.format]}, and comparing what it says with the run")
        graph = Graph(
            order.predictor.models,
            about.image,
            order.predictor.calibrations,
            multilabel=about.multilabel,
            resize=about.resize,
        )
        _WRITERS[order.format](graph, folder / FORMATS[order.format], order.pixels)
        if order.predictor.guard is not None:
            order.predictor.guard.without_records().save(folder / GUARD)
        about = attrs.evolve(about, parity=_parity(order, open_exported(folder, about)))
        if order.refit is not None:
            about = _in_integers(folder, about, order.refit)
        about.save(folder)
        write_readme(folder, about, order.card)
        write_sums(folder)
    return about


def _described(order: Order) -> Description:
    saved = order.predictor.saved
    return Description(
        format=order.format,
        classes=saved.classes,
        positive=saved.positive,
        multilabel=saved.multilabel,
        decision=saved.decision,
        image=saved.image,
        thresholds=order.predictor.thresholds,
        calibrations=order.predictor.calibrations,
        statistics=[(list(model.facts.mean), list(model.facts.std)) for model in order.predictor.models],
        network={"backbone": saved.backbone, "head": dump(saved.head), "num_outputs": saved.num_outputs},
        folds=order.folds,
        sets=order.caution.sets,
        reject=order.caution.reject,
        resize=bool(order.originals),
        origin=dict(order.origin),
    )


# One image and many: the size of a batch must not matter.
def _parity(order: Order, exported: ExportedModel) -> dict[str, Any]:
    wanted = order.predictor.probs(order.pixels)
    singles = [exported.probs(order.pixels[at : at + 1]) for at in range(min(3, len(order.pixels)))]
    refs = [wanted, *(wanted[at : at + 1] for at in range(len(singles)))]
    worst = _agreed(order, [exported.probs(order.pixels), *singles], refs)
    return {
        "max_difference": worst,
        "images": len(order.pixels),
        **_guarded(order, exported),
        **_resized(order, exported),
    }


def _agreed(order: Order, found: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]]) -> float:
    worst = max(float(np.abs(one - ref).max()) for one, ref in zip(found, wanted, strict=True))
    if not worst <= MAX_DIFFERENCE:  # not a number is no agreement
        steep = any(one.method == "isotonic" for one in order.predictor.calibrations)
        remedy = "calibrate with 'platt', whose curve has no steps" if steep else "export another format"
        raise UnsupportedModelError(
            f"the exported model must give the probabilities of the run within {MAX_DIFFERENCE:g}, got a difference of "
            f"{worst:.2g} on real images; {remedy}"
        )
    return worst


# The run is asked about what `decode` makes of the same pixels.
def _resized(order: Order, exported: ExportedModel) -> dict[str, float]:
    if not order.originals:
        return {}
    spec = order.predictor.image
    wanted = [order.predictor.probs(np.stack([decode(image, spec)])) for image in order.originals]
    return {
        "max_difference_resized": _agreed(order, [exported.probs(np.stack([one])) for one in order.originals], wanted)
    }


def _guarded(order: Order, exported: ExportedModel) -> dict[str, float]:
    if order.predictor.guard is None:
        return {}
    caution = Caution(guard=order.predictor.guard)
    wanted, found = (one.tell(order.pixels, caution=caution) for one in (order.predictor, exported))
    ref = wanted.columns["distance"]
    worst = float((np.abs(found.columns["distance"] - ref) / np.maximum(ref, 1)).max())
    if not worst <= MAX_DISTANCE:
        raise UnsupportedModelError(
            f"the exported model must be as far from the training data as the run within {MAX_DISTANCE:g}, got a "
            f"difference of {worst:.2g} on real images; export another format"
        )
    return {"max_distance_difference": worst}


def _in_integers(folder: Path, about: Description, refit: Refit) -> Description:
    before = open_exported(folder, about)
    quantise(folder / FORMATS["onnx"], refit.trials[0])
    pairs = [told_by_both(before.run, open_exported(folder, about).run, trial, about.folds) for trial in refit.trials]
    found = refitted(pairs[0].after, refit, about.thresholds)
    if before.guard is not None:
        limited(before.guard, pairs[0], about.folds).save(folder / GUARD)
    table, cost = measured_cost(pairs, refit.trials, found.thresholds)
    table.to_csv(folder / "quantisation.csv", index=False)
    tell = warn if cost["changed_decisions"] > _MANY_CHANGED else say
    tell(
        f"8-bit integers changed {cost['changed_decisions']:.2%} of {cost['records']} decisions on records that the "
        "models did not train on; 'quantisation.csv' has every metric before and after"
    )
    own = [one for one in found.thresholds if one.model == about.thresholds[0].model] if about.thresholds else []
    return attrs.evolve(about, int8=True, cost=cost, thresholds=own, sets=found.sets, reject=found.reject)
