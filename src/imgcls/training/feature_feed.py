"""Features of frozen layers for the head alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.models.base import Classifier
from imgcls.runtime.features import Features
from imgcls.runtime.ranks import Ranks
from imgcls.training.feeding import Fed, Feed, drawn

__all__ = ["FeatureFeed"]


@final
@attrs.frozen(kw_only=True, eq=False)
class FeatureFeed:
    """Feeds features to the head, as if their images went through the frozen backbone again.

    Attributes:
        plain: The features of images as they are.
        views: Those of training images; they take turns.
        targets: Class index of each record of the set, (N,), or its classes (N, K).
        ranks: Which share of a batch this process has.
        device: Where targets go.
    """

    plain: Features
    views: tuple[Features, ...]
    targets: NDArray[np.int64]
    ranks: Ranks
    device: str

    def prepared(self, model: Classifier, train: NDArray[np.int64], val: NDArray[np.int64]) -> Feed:
        """Stay as it is.

        Args:
            model: The model.
            train: Positions that train.
            val: Positions that validate.

        Returns:
            This feed.
        """
        del model, train, val
        return self

    def each(self, draws: Sequence[NDArray[np.int64]], epoch: int, *, skip: int) -> Iterator[Fed]:
        """Make the steps of an epoch.

        Args:
            draws: Positions (B,) of each step.
            epoch: Which epoch, from 0 over all stages.
            skip: How many steps are left out.

        Yields:
            What each step sees.
        """
        for part in drawn(draws, self.ranks)[skip:]:
            turn = (epoch + part.times) % len(self.views)
            stacked = np.empty((len(part.positions), self.plain.values.shape[1]), dtype=np.float32)
            for view in np.unique(turn).tolist():
                stacked[turn == view] = self.views[view].values[part.positions[turn == view]]
            yield Fed(
                positions=part.positions,
                inputs=torch.from_numpy(stacked).to(self.device),
                targets=torch.from_numpy(self.targets[part.positions]).to(self.device),
                size=part.size,
            )

    def logits(self, model: Classifier, inputs: Tensor) -> Tensor:
        """Compute logits with gradients.

        Args:
            model: The model.
            inputs: Features (B, F).

        Returns:
            Logits (B, K).
        """
        return model.classify(inputs)

    def predict(self, model: Classifier, positions: NDArray[np.int64], *, batch_size: int) -> Tensor:
        """Compute logits in evaluation mode.

        Args:
            model: The model.
            positions: Which records, (N,).
            batch_size: Makes no difference: a head takes all of them at once.

        Returns:
            Logits (N, K), float32, on the device.
        """
        del batch_size
        training = model.training
        try:
            model.eval()
            with torch.no_grad():
                return model.classify(self.plain.of(positions))
        finally:
            model.train(training)
