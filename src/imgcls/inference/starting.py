"""Weights of an earlier run that training begins with."""

from __future__ import annotations

from pathlib import Path
from typing import final

import attrs
import numpy as np
from torch import Tensor

from imgcls.core.errors import SplitError, WeightsError, listing
from imgcls.core.folders import read_json
from imgcls.core.progress import say, warn
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold, Folds
from imgcls.models.base import Classifier
from imgcls.runtime.checkpoints import has_checkpoint, load_checkpoint

__all__ = ["Start"]


@final
@attrs.frozen(kw_only=True)
class Start:
    """The checkpoints of a run, one of which each fold begins with.

    Attributes:
        checkpoints: Their folders.
        trained: The ids that each was trained on; empty where that is not known.
        chosen: The ids that each was chosen by.
        fingerprint: That of the set they were trained on, or None.
        classes: Its classes; empty where they are not known.
    """

    checkpoints: tuple[Path, ...]
    trained: tuple[frozenset[str], ...]
    chosen: tuple[frozenset[str], ...]
    fingerprint: str | None
    classes: tuple[str, ...] = ()

    @classmethod
    def over(cls, path: Path) -> Start:
        """Look for checkpoints.

        Args:
            path: The folder of a run, or of one checkpoint.

        Returns:
            What training can begin with.

        Raises:
            WeightsError: if there is none.
        """
        found = sorted(path.glob("fold_*/checkpoints/best")) or ([path] if has_checkpoint(path) else [])
        if not found:
            raise WeightsError(f"'init_from' must be a run or the folder of a checkpoint, got {str(path)!r}")
        run = next((folder for folder in found[0].resolve().parents if (folder / "splits.json").exists()), None)
        if run is None:
            unknown = (frozenset[str](),) * len(found)
            return cls(checkpoints=tuple(found), trained=unknown, chosen=unknown, fingerprint=None)
        splits = read_json(run / "splits.json")
        numbers = [int(folder.resolve().relative_to(run).parts[0].removeprefix("fold_")) for folder in found]
        parts = [splits["folds"][number] for number in numbers]
        trained, chosen = (tuple(frozenset(part[name]) for part in parts) for name in ("train", "val"))
        return cls(
            checkpoints=tuple(found),
            trained=trained,
            chosen=chosen,
            fingerprint=splits["fingerprint"],
            classes=tuple(read_json(run / "model.json")["classes"]),
        )

    def check(self, dataset: Dataset, folds: Folds) -> None:
        """Check that every fold can begin with one of the checkpoints, before any of them trains.

        Args:
            dataset: The set.
            folds: Its folds.

        Raises:
            WeightsError: if the classes are others.
            SplitError: if every checkpoint knows records that a fold holds back.
        """
        if self.classes not in {(), dataset.classes}:
            raise WeightsError(
                f"'init_from' must be a run on the classes {list(dataset.classes)}, got one on {list(self.classes)}; "
                f"to take its backbone alone, give a backbone of timm or torchvision {str(self.checkpoints[0])!r} as "
                "'weights'"
            )
        for number, fold in enumerate(folds):
            candidate = self._chosen(dataset, fold, number)
            if dataset.arrays is None and self._knows(candidate, dataset, fold):  # in memory ids are mere positions
                warn(
                    f"The set of 'init_from' is another one, but trained on records with ids that fold {number} holds "
                    "back; where they are the same images, what is measured on them flatters"
                )
                return

    def load(self, model: Classifier, dataset: Dataset, fold: Fold, number: int) -> None:
        """Give a model the weights of a checkpoint that knows nothing of the fold's test records.

        Args:
            model: The model, which is changed; its head stays as it is where that of the
                checkpoint has another form.
            dataset: The set.
            fold: The fold.
            number: Which fold, from 0.

        Raises:
            SplitError: if every checkpoint was trained or chosen on some of them.
            WeightsError: if the checkpoint is of another backbone.
        """
        folder = self.checkpoints[self._chosen(dataset, fold, number)]
        weights = load_checkpoint(folder).weights
        own = model.state_dict()
        misfits = [name for name in {**own, **weights} if not _fits(name, own, weights)]
        strangers = [name for name in misfits if not name.startswith(("head.", "prior_shift"))]
        if strangers:
            raise WeightsError(
                f"'init_from' must hold weights of the same backbone, got others in {str(folder)!r}: "
                f"{listing(strangers, limit=3)}"
            )
        if misfits:
            say(f"Fold {number} begins with the backbone of {folder} and a new head, since the heads differ in form")
        model.load_state_dict({name: own[name] if name in misfits else weights[name] for name in own})

    # Of the same set, only a model of a fold that held the tested records back is fit.
    def _chosen(self, dataset: Dataset, fold: Fold, number: int) -> int:
        count = len(self.checkpoints)
        if self.fingerprint != dataset.fingerprint:
            return number % count
        for candidate in [number % count, *range(count)]:
            if not self._knows(candidate, dataset, fold):
                return candidate
        raise SplitError(
            f"'init_from' must have a model that did not train on what fold {number} validates or tests, got none; "
            "divide the set as that run did, with the same splitter and seed"
        )

    # Validation records may have chosen the checkpoint, as they will again; but none may have trained it.
    def _knows(self, candidate: int, dataset: Dataset, fold: Fold) -> bool:
        known = self.trained[candidate], self.chosen[candidate]
        trained, chosen = (np.isin(dataset.ids, list(ids)) for ids in known)
        return bool((trained | chosen)[fold.test].any() or trained[fold.val].any())


def _fits(name: str, own: dict[str, Tensor], weights: dict[str, Tensor]) -> bool:
    return name in own and name in weights and own[name].shape == weights[name].shape
