"""New images through the models of a run: probabilities, and a decision at its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.data.spec import ImageSpec
from imgcls.evaluation.calibration import Calibration, load_calibrations
from imgcls.evaluation.predictions import probabilities
from imgcls.evaluation.results import load_thresholds
from imgcls.evaluation.thresholds import Threshold
from imgcls.inference.deciding import Decider, predict_files
from imgcls.inference.saved import SavedModel
from imgcls.models.base import Backbone, Classifier
from imgcls.runtime.batches import normalisation, normalise

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
    """The models of a run as one: the mean of the probabilities over folds.

    Attributes:
        saved: The description of the models.
        models: One a fold, in evaluation mode.
        thresholds: Those of the mean over folds.
        calibrations: One a model, by its number; none where probabilities are as the models give them.
    """

    saved: SavedModel
    models: tuple[Classifier, ...]
    thresholds: tuple[Threshold, ...]
    calibrations: tuple[Calibration, ...] = ()

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
        self, paths: str | Path | Sequence[str | Path], *, threshold: str | float | None = None, batch_size: int = 32
    ) -> pd.DataFrame:
        """Predict image files.

        Args:
            paths: The files, or one.
            threshold: The rule of a fitted threshold, or a number; None takes the run's decision rule. Several labels,
                and more than two classes, have one each.
            batch_size: Images at a time.

        Returns:
            A row an image: `path`, `prob_<class>` of each class, `decision`; of several labels those whose probability
            reaches their threshold, with `|` between, and an empty text for none.

        Raises:
            DecodeError: if a file is missing or cannot be read.
            ConfigError: if no such threshold was fitted.
        """
        return predict_files(
            paths,
            self.probs,
            image=self.image,
            decider=self.decider,
            threshold=threshold,
            batch_size=batch_size,
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

    def confidence(self, probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Say how sure the decisions of the run's rule are, as `evaluation.rejecting.confidence` does.

        Args:
            probs: (N, K).

        Returns:
            (N,) from 0 to 1.
        """
        return self.decider.confidence(probs)

    def probs(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Predict pixels; threads may call it at the same time.

        Args:
            pixels: (B, H, W, C) in the form of `image`, as `imgcls.data.images.read` gives them.

        Returns:
            Probabilities (B, K), the mean over folds.
        """
        with torch.no_grad():
            logits = [model(normalised(pixels, model, self.image)).numpy() for model in self.models]
        several = self.saved.multilabel
        if self.calibrations:
            pairs = zip(self.calibrations, logits, strict=True)
            parts = [calibration.probs(values, multilabel=several) for calibration, values in pairs]
        else:
            parts = [probabilities(values, multilabel=several) for values in logits]
        return np.asarray(np.mean(parts, axis=0))
