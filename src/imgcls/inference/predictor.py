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

from imgcls.core.errors import ConfigError, nearest
from imgcls.data import images
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.predictions import joined_names, probabilities
from imgcls.evaluation.results import load_thresholds
from imgcls.evaluation.thresholds import Threshold, parse_rule
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


@final
@attrs.frozen(kw_only=True, eq=False)
class Predictor:
    """The models of a run as one: the mean of the probabilities over folds.

    Attributes:
        saved: The description of the models.
        models: One a fold, in evaluation mode.
        thresholds: Those of the mean over folds.
    """

    saved: SavedModel
    models: tuple[Classifier, ...]
    thresholds: tuple[Threshold, ...]

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
        return cls(saved=saved, models=tuple(models), thresholds=tuple(thresholds))

    def predict(
        self, paths: str | Path | Sequence[str | Path], *, threshold: str | float | None = None, batch_size: int = 32
    ) -> pd.DataFrame:
        """Predict image files.

        Args:
            paths: The files, or one.
            threshold: The rule of a fitted threshold, or a number; None takes the run's
                decision rule. Only for two classes, or several labels, each of which has its own.
            batch_size: Images at a time.

        Returns:
            A row an image: `path`, `prob_<class>` of each class, `decision`; of several labels those whose probability
            reaches their threshold, with `|` between, and an empty text for none.

        Raises:
            DecodeError: if a file is missing or cannot be read.
            ConfigError: if no such threshold was fitted.
        """
        import pandas as pd

        cuts = self._cuts(threshold)
        files = [Path(paths)] if isinstance(paths, str | Path) else list(map(Path, paths))
        parts = [self._probs(files[start : start + batch_size]) for start in range(0, len(files), batch_size)]
        probs = np.concatenate(parts) if parts else np.empty((0, len(self.saved.classes)))
        columns = {f"prob_{name}": probs[:, index] for index, name in enumerate(self.saved.classes)}
        return pd.DataFrame({"path": list(map(str, files)), **columns, "decision": self._decide(probs, cuts)})

    def _probs(self, files: Sequence[Path]) -> NDArray[np.float64]:
        spec = self.saved.image
        pixels = np.stack([images.read(file, spec) for file in files])
        with torch.no_grad():
            logits = [model(normalised(pixels, model, spec)).numpy() for model in self.models]
        return np.mean([probabilities(values, multilabel=self.saved.multilabel) for values in logits], axis=0)

    # One threshold for two classes, one for each of several labels, None where the most probable class is taken.
    def _cuts(self, threshold: str | float | None) -> NDArray[np.float64] | None:
        if self.saved.positive is None and not self.saved.multilabel:
            if threshold is not None:
                raise ConfigError(f"'threshold' must be left out for more than two classes, got {threshold!r}")
            return None
        rule = parse_rule(self.saved.decision if threshold is None else threshold, name="threshold")
        names = self.saved.classes if self.saved.multilabel else ("",)
        if rule.kind == "fixed":
            return np.full(len(names), rule.value)
        fitted = {(t.rule, t.class_name): t.value for t in self.thresholds}
        if any((rule.name, name) not in fitted for name in names):
            known = {known for known, _ in fitted}
            raise ConfigError(f"'threshold' must be fitted in the run, got {rule.name!r}; {nearest(rule.name, known)}")
        return np.array([fitted[rule.name, name] for name in names])

    def _decide(self, probs: NDArray[np.float64], cuts: NDArray[np.float64] | None) -> list[str]:
        classes = self.saved.classes
        if cuts is not None and self.saved.multilabel:
            return list(map(str, joined_names((probs >= cuts).astype(np.int64), classes)))
        if cuts is None or self.saved.positive is None:
            return [classes[index] for index in probs.argmax(axis=1)]
        positive = classes.index(self.saved.positive)
        return [classes[positive if score >= cuts[0] else 1 - positive] for score in probs[:, positive]]
