"""New images through the models of a run: probabilities, and a decision at its threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.core.errors import ConfigError
from imgcls.core.options import rejected
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.calibration import Calibration, load_calibrations
from imgcls.evaluation.conformal import Conformal
from imgcls.evaluation.predictions import probabilities
from imgcls.evaluation.rejecting import Rejection
from imgcls.evaluation.results import load_thresholds
from imgcls.evaluation.thresholds import Threshold
from imgcls.explain.base import Explainer, explainers
from imgcls.inference.caution import Caution
from imgcls.inference.deciding import Cut, Decider
from imgcls.inference.guarding import Guard
from imgcls.inference.reading import Paths, Reading, Told
from imgcls.inference.saved import SavedModel
from imgcls.inference.views import Draws, View, views
from imgcls.models.base import Backbone, Classifier
from imgcls.runtime.batches import normalisation, normalise
from imgcls.runtime.memory import keep_memory

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Predictor", "normalised"]


def normalised(pixels: NDArray[Any], model: Classifier, spec: ImageSpec) -> Tensor:
    """Normalise pixels as in the training of a model.

    Args:
        pixels: Images (B, H, W, C), uint8 or uint16, in the form of the spec.
        model: The model, whose facts have mean and standard deviation.
        spec: The form of the images.

    Returns:
        Images (B, C, H, W), float32.
    """
    own = attrs.evolve(spec, mean=model.facts.mean, std=model.facts.std)
    return normalise(torch.from_numpy(pixels), *normalisation(own))


# That of all folds together is for a model that is trained on all of them.
def _in_order(found: Sequence[Calibration], num_folds: int) -> list[Calibration]:
    known = {one.model: one for one in found}
    return [known[str(number)] for number in range(num_folds)] if known else []


@final
@attrs.frozen(kw_only=True, eq=False)
class Predictor:
    """The models of a run as one: the mean of the probabilities over folds. Threads may share it.

    Attributes:
        saved: The description of the models.
        models: One a fold, in evaluation mode.
        thresholds: Those of the mean over folds.
        calibrations: One a model, by its number; none where probabilities are as the models give them.
        guard: What tells images unlike the training data, or None.
    """

    saved: SavedModel
    models: tuple[Classifier, ...]
    thresholds: tuple[Threshold, ...]
    calibrations: tuple[Calibration, ...] = ()
    guard: Guard | None = None

    @classmethod
    def load(cls, folder: Path, *, num_folds: int, backbone: Backbone | None = None) -> Predictor:
        """Load the models of a run.

        Args:
            folder: The run's folder.
            num_folds: How many folds it has.
            backbone: The backbone itself, where it is at hand.

        Returns:
            The predictor, on the CPU.
        """
        saved = SavedModel.load(folder / "model.json")
        thresholds = [t for t in load_thresholds(folder / "thresholds.json") if t.model == "mean"]
        models = [saved.classifier(folder / f"fold_{number}", backbone=backbone) for number in range(num_folds)]
        return cls(
            saved=saved,
            models=tuple(models),
            thresholds=tuple(thresholds),
            calibrations=tuple(_in_order(load_calibrations(folder / "calibration.json"), num_folds)),
        )

    def predict(
        self,
        paths: Paths,
        *,
        threshold: Cut | None = None,
        batch_size: int = 32,
        maps: str | Path | None = None,
        explainer: str | Mapping[str, Any] | Explainer | None = None,
        **choices: Any,
    ) -> pd.DataFrame:
        """Predict image files.

        Args:
            paths: The files, or one.
            threshold: The rule of a fitted threshold, or a number; None takes the run's decision rule. Several labels,
                and more than two classes, have one each: a rule, or a number for each by name.
            batch_size: Images at a time.
            maps: A folder, into which a relevance map of each image is drawn over it, for the class that was decided
                (of several labels, the most probable one), in the form that the models see: (H, W) pixels as PNG, the
                mean of the models' maps. Names are made of the number of the row, the file, the class and the method.
            explainer: The method of the maps: its name, spec, or an explainer; None takes `"grad-cam"`.
            **choices: As for `reading`: `on_error`, `sets`, `reject`, `neighbours`, `tta`.

        Returns:
            A row an image: `path`, `prob_<class>` of each class, `decision`; of several labels those whose probability
            reaches their threshold, with `|` between, and an empty text for none. Of several models `spread`, the
            standard deviation of their probabilities of the decided class (of several labels, the largest of all).
            With a guard `distance` and `unlike`, and with `neighbours` `neighbour_1`, `neighbour_1_class` and so on;
            with `sets` a column `set`, classes with `|` between, and with `reject` a column `rejected`. With `maps` a
            column `map`, the path of the file, empty for images that cannot be read and where a map says nothing.

        Raises:
            DecodeError: if a file is missing or cannot be read.
            ConfigError: if no such threshold was fitted, or `explainer` comes without `maps`.
            UnsupportedModelError: if the explainer cannot treat the network; with the reason.
        """
        if maps is None and explainer is not None:
            raise rejected("explainer", "be left out without 'maps', the folder for what it draws", explainer)
        reading = self.reading(threshold=threshold, batch_size=batch_size, **choices)
        if maps is None:
            return reading.table(paths)
        from imgcls.inference.overlays import draw_maps  # it normalises as is done here

        method, table = explainers.create(explainer or "grad-cam"), reading.table(paths)
        return table.assign(map=draw_maps(self, table, explainer=method, folder=Path(maps)))

    def stream(
        self, paths: Paths, *, threshold: Cut | None = None, batch_size: int = 32, **choices: Any
    ) -> Iterator[dict[str, Any]]:
        """Predict image files one after the other, for more of them than a table should hold, or without an end.

        Args:
            paths: The files; of an iterator no more than a batch is taken ahead.
            threshold: As for `predict`.
            batch_size: Images at a time; 1 answers every file at once.
            **choices: As for `reading`.

        Returns:
            The rows of the table of `predict`, as they come.

        Raises:
            ConfigError: if an option is wrong, at once.
        """
        return self.reading(threshold=threshold, batch_size=batch_size, **choices).rows(paths)

    def reading(
        self,
        *,
        threshold: Cut | None = None,
        batch_size: int = 32,
        on_error: str = "raise",
        sets: Conformal | None = None,
        reject: Rejection | None = None,
        neighbours: int = 0,
        tta: str | Mapping[str, Any] | Draws | None = None,
    ) -> Reading:
        """Prepare to predict files.

        Args:
            threshold: As for `predict`.
            batch_size: Images at a time.
            on_error: What is done about files that cannot be read: `raise`, or `row`, a row with the reason in a column
                `error` and an empty decision.
            sets: Adds prediction sets, from `Run.conformal`.
            reject: Says where the model abstains, from `Run.rejection`.
            neighbours: How many of the nearest training images are named, which needs a guard.
            tta: Test-time augmentation, as for `inference.views.views`: probabilities are means over several views.

        Returns:
            What makes rows of files.

        Raises:
            ConfigError: if `reject` comes with another threshold, or an option is wrong.
        """
        if reject is not None and threshold is not None:
            raise ConfigError(
                f"'threshold' must be left out with 'reject', which goes with the run's, got {threshold!r}"
            )
        caution = Caution(guard=self.guard, sets=sets, reject=reject, neighbours=neighbours)
        return Reading(
            tell=partial(self.tell, caution=caution, seen=views(tta, self.image)),
            num_models=len(self.models),
            image=self.image,
            decider=self.decider,
            cuts=self.decider.cuts(threshold),
            batch_size=batch_size,
            on_error=on_error,
            columns=caution.names,
        )

    @property
    def image(self) -> ImageSpec:
        """The form of the images that the models take."""
        return self.saved.image

    @property
    def decider(self) -> Decider:
        """What makes decisions of the probabilities."""
        return Decider(
            classes=self.saved.classes,
            positive=self.saved.positive,
            multilabel=self.saved.multilabel,
            decision=self.saved.decision,
            thresholds=self.thresholds,
        )

    def probs(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Predict pixels; threads may call it at the same time.

        Args:
            pixels: (B, H, W, C) in the form of `image`, as `imgcls.data.images.read` gives them.

        Returns:
            Probabilities (B, K), the mean over folds.
        """
        return np.asarray(np.mean(self._each(pixels)[0], axis=0))

    # Of each model the probabilities, and the embeddings that they come from.
    def _each(self, pixels: NDArray[Any]) -> tuple[NDArray[np.float64], list[NDArray[np.float32]]]:
        keep_memory()  # or a batch of 32 would take twice as long
        probs, features = [], []
        with torch.no_grad():
            for number, model in enumerate(self.models):
                embedded = model.body(normalised(pixels, model, self.image))
                probs.append(self._calibrated(number, model.classify(embedded).numpy()))
                features.append(embedded.float().numpy())
        return np.stack(probs), features

    def _calibrated(self, number: int, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        several = self.saved.multilabel
        if self.calibrations:
            return self.calibrations[number].probs(logits, multilabel=several)
        return probabilities(logits, multilabel=several)

    def tell(self, pixels: NDArray[Any], *, caution: Caution, seen: Sequence[View] = ()) -> Told:
        """Predict pixels, with all that is said of them; threads may call it at the same time.

        Args:
            pixels: (B, H, W, C) in the form of `image`.
            caution: What is said beside.
            seen: The views whose mean is taken. The first is the image itself, which the guard compares.

        Returns:
            What the models say.
        """
        parts, features = self._each(pixels)
        each = np.mean([parts, *(self._each(view(pixels))[0] for view in seen[1:])], axis=0)
        probs = np.asarray(each.mean(axis=0))
        return Told(probs=probs, each=each, columns=caution.columns(probs, features, self.decider))
