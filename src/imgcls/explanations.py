"""Explanations of several models, or by several methods, against the same masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from imgcls.core.errors import ConfigError, RunError
from imgcls.core.folders import write_text
from imgcls.core.spacing import evenly
from imgcls.explain.base import Attributions, Explainer, explainers
from imgcls.explain.mask_scores import MaskScores
from imgcls.explain.score_tables import differences, pooled, summary
from imgcls.explain.sheets import comparison_sheet
from imgcls.inference.attribution_folder import score_rows
from imgcls.inference.explaining import Subject, attributions_of, explained_class
from imgcls.inference.masks import Masks, find_masks

if TYPE_CHECKING:
    import pandas as pd

    from imgcls.run import Run

__all__ = ["ExplanationComparison", "compare_explanations"]


@final
@attrs.frozen(kw_only=True, eq=False)
class ExplanationComparison:
    """What methods reach on the same images.

    Attributes:
        rows: A row an image and method: `method`, `id`, `class`, `group`, scores (`MaskScores`).
        means: By method, over all images and by class: `method`, `by`, `value`, `metric`, `mean`, `low`,
            `high`, `std`, `median`, `n` and how many had no score.
        differences: Paired, image by image: `a`, `b`, `metric`, `difference` (of a - b), `low`, `high`,
            `better` (share of images with a > b), `n`.
        pixels: By method, the protocol of reference 004 (`pooled`).
        attributions: By method, the maps, in the order of the ids.
    """

    rows: pd.DataFrame
    means: pd.DataFrame
    differences: pd.DataFrame
    pixels: pd.DataFrame
    attributions: Mapping[str, Attributions]
    _first: Subject = attrs.field(repr=False)
    _masks: Masks = attrs.field(repr=False)

    def sheet(self, *, limit: int = 8) -> bytes:
        """Draw the same images with the maps of all methods.

        Args:
            limit: How many images at most, evenly spaced.

        Returns:
            A PNG file: masks are outlined in green, each map is scaled by itself.
        """
        positions, ids = self._first.positions, self._first.predictions.ids
        chosen = evenly(len(ids), limit)
        images = [_shown(self._first.pixels(position)) for position in positions[chosen].tolist()]
        size = self._first.saved.image.size
        maps = {name: list(_sized(found.maps[chosen], size)) for name, found in self.attributions.items()}
        masks = [self._masks.of(position) for position in positions[chosen].tolist()]
        return comparison_sheet(images, maps, notes=ids[chosen].tolist(), masks=masks)

    def save(self, folder: str | Path) -> Path:
        """Write the tables as CSV files, and the sheet.

        Args:
            folder: Where they go; it is made.

        Returns:
            The folder.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for name in ("rows", "means", "differences", "pixels"):
            write_text(place / f"{name}.csv", getattr(self, name).to_csv(index=False))
        (place / "sheet.png").write_bytes(self.sheet())
        return place


def compare_explanations(
    methods: Mapping[str, tuple[Run, str | dict[str, Any] | Explainer]],
    masks: Mapping[str, Any] | None = None,
    *,
    split: str = "test",
    target: str | None = None,
    limit: int | None = None,
    scores: MaskScores | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> ExplanationComparison:
    """Score several methods or models on the images that all of them predicted and that have a mask.

    Each image is explained by the model of its run that did not train on it, or by the mean of the
    folds. Maps are scored at the size that their own model sees.

    Args:
        methods: By a name of yours, a run and an explainer for it.
        masks: Masks by id, (h, w) from 0 to 1; None takes those of the sets.
        split: `val` or `test`.
        target: The class that is explained; None takes the positive one of two, else the true one.
        limit: How many images at most, evenly spaced; None takes all.
        scores: What is measured; the default is `MaskScores()`.
        resamples: How often groups are drawn for the intervals.
        seed: Of the draws.

    Returns:
        Scores, means, paired differences with 95 % intervals by group, and a sheet of pictures.

    Raises:
        ConfigError: if there is nothing to compare, or the class is unknown.
        RunError: if the runs have no image with a mask in common, or other classes.
        UnsupportedModelError: if a method cannot treat its model; with the reason.
    """
    if not isinstance(methods, Mapping) or not methods:
        raise ConfigError("'methods' must be runs and explainers by name, such as {'cnn': (run, 'grad-cam')}")
    measured = scores or MaskScores()
    made = {name: (run.subject(split), explainers.create(method)) for name, (run, method) in methods.items()}
    subjects = _shared({name: subject for name, (subject, _) in made.items()}, masks, limit)
    found, rows, read = {}, {}, {}
    for name, (_, explainer) in made.items():
        subject, read[name] = subjects[name]
        explained = _target(subject, target)
        found[name] = attributions_of(subject, explainer, explained, label=f"explain {name}")
        inside = read[name].stack(subject.positions)
        rows[name] = score_rows(subject, found[name], inside, measured)
    names, chance = ["area", *measured.names], {"resamples": resamples, "seed": seed}
    first = next(iter(methods))
    return ExplanationComparison(
        rows=_stacked(rows),
        means=_stacked({name: summary(table, names, by="class", **chance) for name, table in rows.items()}),
        differences=differences(rows, measured.names, **chance),
        pixels=_stacked({name: pooled(table, **chance) for name, table in rows.items()}),
        attributions=found,
        first=subjects[first][0],
        masks=read[first],
    )


# The records that all runs predicted and that have a mask, in the order of the first run, with their masks.
def _shared(
    subjects: Mapping[str, Subject], given: Mapping[str, Any] | None, limit: int | None
) -> dict[str, tuple[Subject, Masks]]:
    first = next(iter(subjects.values()))
    classes = {subject.predictions.classes for subject in subjects.values()}
    if len(classes) > 1:
        raise RunError(f"'methods' must be runs of the same classes, got {sorted(classes)}")
    places = {name: _places(subject) for name, subject in subjects.items()}
    common = set.intersection(*(set(place) for place in places.values()))
    masks = {name: _masks(subject, given, common) for name, subject in subjects.items()}
    where, own = dict(zip(first.data.ids.tolist(), range(len(first.data)), strict=True)), next(iter(masks.values()))
    ids = [name for name in places[next(iter(subjects))] if name in common and own.any(where[name])]
    if not ids:
        raise RunError("'methods' must be runs with images in common that have masks, got none")
    chosen = evenly(len(ids), limit or len(ids))
    kept = [ids[at] for at in chosen]
    return {
        name: (subject.take(np.array([places[name][one] for one in kept])), masks[name])
        for name, subject in subjects.items()
    }


# Where each record stands; of several repeats the first one explains it.
def _places(subject: Subject) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, name in enumerate(subject.predictions.ids.tolist()):
        found.setdefault(name, place)
    return found


def _masks(subject: Subject, given: Mapping[str, Any] | None, common: set[str]) -> Masks:
    wanted = True if given is None else {name: mask for name, mask in given.items() if name in common}
    found = find_masks(subject.data, subject.saved.image, wanted)
    assert found is not None
    return found


def _target(subject: Subject, target: str | None) -> NDArray[np.int64]:
    predictions = subject.predictions
    name = predictions.positive if target is None else target
    if name is not None:
        return explained_class(subject, target=name)
    if predictions.multilabel:
        raise ConfigError("'target' must be given where a record may have several labels, got None")
    return predictions.labels


def _stacked(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(tables, names=["method", None]).reset_index(level=0).reset_index(drop=True)


def _shown(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def _sized(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    if maps.shape[1:] == size:
        return maps
    enlarged = functional.interpolate(torch.from_numpy(maps)[:, None], size=size, mode="bilinear", align_corners=False)
    return np.asarray(enlarged[:, 0])
