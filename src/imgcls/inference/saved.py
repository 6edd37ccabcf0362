"""The description of a run's model, from which its classifiers are built again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from imgcls.core import config, options
from imgcls.core.dumping import dump_fields
from imgcls.core.errors import RunError
from imgcls.core.folders import read_json, write_json
from imgcls.data.spec import ImageSpec
from imgcls.models.base import Backbone, Classifier, backbones
from imgcls.models.head import Head
from imgcls.runtime.checkpoints import load_checkpoint

__all__ = ["SavedModel"]


def _head(value: Any) -> Any:
    return config.nested(Head, value, path="head")


def _image(value: Any) -> Any:
    return config.nested(ImageSpec, value, path="image")


@attrs.frozen(kw_only=True)
class SavedModel:
    """What must be known to use the checkpoints of a run.

    Attributes:
        backbone: The backbone's spec.
        head: The head.
        image: The form of the images, with mean and standard deviation.
        num_outputs: How many logits.
        classes: The classes in order.
        positive: The positive class of two, or None.
        decision: The rule of the threshold that decides; empty takes the most probable class.
        multilabel: Whether a record may have several labels, each of which is decided on its own.
    """

    backbone: dict[str, Any]
    head: Head = attrs.field(converter=_head)
    image: ImageSpec = attrs.field(converter=_image)
    num_outputs: int
    classes: tuple[str, ...] = attrs.field(converter=options.texts)
    positive: str | None
    decision: str
    multilabel: bool = False

    def save(self, path: Path) -> None:
        """Write the description.

        Args:
            path: The JSON file.
        """
        write_json(path, dump_fields(self))

    @classmethod
    def load(cls, path: Path) -> SavedModel:
        """Read a description.

        Args:
            path: The JSON file.

        Returns:
            The description.
        """
        return config.build(cls, read_json(path), path=path.name)

    def classifier(self, fold_folder: Path, *, backbone: Backbone | None = None) -> Classifier:
        """Build the classifier of a fold with its best weights.

        Args:
            fold_folder: The fold's folder.
            backbone: The backbone itself, where it is at hand; else it is made from its spec.

        Returns:
            The classifier in evaluation mode, on the CPU; its facts say how images are normalised.

        Raises:
            RunError: if the checkpoint is damaged, does not fit, or its backbone is not known
                by name.
        """
        if backbone is None and "name" not in self.backbone:
            raise RunError(
                f"the backbone of {str(fold_folder.parent)!r} must be a registered plugin to be built again, got "
                f"{self.backbone.get('opaque')}; declare it in the entry points of its distribution"
            )
        found = load_checkpoint(fold_folder / "checkpoints" / "best")
        # Normalisation by the training records differs from fold to fold, so each model says how its images are.
        statistics = self.image.statistics or (found.facts["mean"], found.facts["std"])
        try:
            return self.built(found.weights, statistics, backbone=backbone)
        except RuntimeError as error:
            raise RunError(f"checkpoint of {str(fold_folder)!r} must fit its model; {error}") from None

    def built(
        self, weights: dict[str, Tensor], statistics: Sequence[Sequence[float]], *, backbone: Backbone | None = None
    ) -> Classifier:
        """Build a classifier with given weights.

        Args:
            weights: Of the whole classifier.
            statistics: Mean and standard deviation of each channel, in units of 0 to 1.
            backbone: The backbone itself, where it is at hand.

        Returns:
            The classifier in evaluation mode, on the CPU.

        Raises:
            RuntimeError: if the weights do not fit.
        """
        model = (backbone or backbones.create(self.backbone)).build(
            self.num_outputs,
            in_channels=self.image.channels,
            image_size=self.image.size,
            head=self.head,
            initial=False,
        )
        model.load_state_dict(weights)
        mean, std = statistics
        model.facts = attrs.evolve(model.facts, mean=tuple(mean), std=tuple(std))
        return model.eval()
