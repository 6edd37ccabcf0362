"""Images of the drawn records, augmented and normalised, for the whole network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from imgcls.augment.augmenter import Augmenter
from imgcls.augment.table import Rows
from imgcls.models.base import Classifier
from imgcls.runtime.batches import Batches, forward
from imgcls.runtime.features import Features, features_of
from imgcls.runtime.ranks import Ranks
from imgcls.training.feature_feed import FeatureFeed
from imgcls.training.feeding import Drawn, Fed, Feed, drawn

__all__ = ["ImageFeed"]


@final
@attrs.frozen(kw_only=True, eq=False)
class ImageFeed:
    """Feeds images to the whole network.

    The pixels of a draw depend on seed, epoch and its place in the epoch, and on nothing else: not
    on the size of batches, the number of processes or threads, or where training was resumed.

    Attributes:
        batches: The images of training steps.
        seen: The images of validation.
        targets: Class index of each record of the set, (N,), or its classes (N, K).
        num_classes: How many classes there are.
        augmenter: What happens to training images.
        ranks: Which share of a batch this process has.
        seed: The seed of the fold.
        view_seed: The seed of such pictures as take turns, which all folds share.
        views: How many augmented pictures of a record take turns; None makes a new one for each draw.
        caches: Whether the features of a frozen backbone are computed once.
    """

    batches: Batches
    seen: Batches
    targets: NDArray[np.int64]
    num_classes: int
    augmenter: Augmenter
    ranks: Ranks
    seed: int
    view_seed: int = 0
    views: int | None = None
    caches: bool = True

    def prepared(self, model: Classifier, train: NDArray[np.int64], val: NDArray[np.int64]) -> Feed:
        """Compute the features of a frozen backbone, if each record has only so many pictures.

        Args:
            model: The model.
            train: Positions that train, (N,).
            val: Positions that validate, (M,).

        Returns:
            A feed of features, or this one.
        """
        frozen = not any(parameter.requires_grad for parameter in model.body.parameters())
        if not (self.caches and frozen and (self.augmenter.idle or self.views is not None)):
            return self
        plain = features_of(model.body, self.seen, val)
        found = [self._features(model, train, view) for view in range(self.views or 1)]
        views = tuple(view for view in found if view is not None)
        if plain is None or len(views) < len(found):
            return self
        return FeatureFeed(
            plain=plain, views=views, targets=self.targets, ranks=self.ranks, device=self.seen.runtime.device
        )

    def _features(self, model: Classifier, train: NDArray[np.int64], view: int) -> Features | None:
        if self.augmenter.idle:
            return features_of(model.body, self.batches, train)

        def make(raw: Tensor, positions: NDArray[np.int64]) -> Tensor:
            return self._view(raw, positions, view)

        key = f"{self.augmenter!r} {self.view_seed} {view}"
        return features_of(model.body, self.batches, train, make=make, key=key)

    # A view is a picture of a record whatever its place in the epoch.
    def _view(self, raw: Tensor, positions: NDArray[np.int64], view: int) -> Tensor:
        rows = Rows(seed=self.view_seed, epoch=view, numbers=positions, labels=self._classes(positions))
        return self._augmented(raw, rows)

    def _augmented(self, raw: Tensor, rows: Rows) -> Tensor:
        batches = self.batches
        return self.augmenter.apply(batches.planes(raw), rows, finish=batches.standardised, layout=batches.layout)[0]

    def each(self, draws: Sequence[NDArray[np.int64]], epoch: int, *, skip: int) -> Iterator[Fed]:
        """Make the steps of an epoch.

        Args:
            draws: Positions (B,) of each step.
            epoch: Which epoch, from 0 over all stages.
            skip: How many steps are left out.

        Yields:
            What each step sees.
        """
        parts = drawn(draws, self.ranks)[skip:]
        for part, raw in zip(parts, self.batches.source.each([part.positions for part in parts]), strict=True):
            yield self._fed(raw, part, epoch)

    def _fed(self, raw: Tensor, part: Drawn, epoch: int) -> Fed:
        targets = torch.from_numpy(self.targets[part.positions]).to(self.batches.runtime.device)
        if self.augmenter.idle:
            return self._seen(part, self.batches.ready(raw), targets)
        if self.views is not None:
            return self._seen(part, self._turned(raw, part, epoch, self.views), targets)
        rows = Rows(
            seed=self.seed,
            epoch=epoch,
            numbers=part.numbers,
            labels=self._classes(part.positions),
            repeated=part.times > 0,
        )
        images = self._augmented(raw, rows)
        if self.augmenter.mixes:
            images, targets = self.augmenter.mix(images, self._shares(targets), rows)
        return self._seen(part, images, targets)

    def _seen(self, part: Drawn, inputs: Tensor, targets: Tensor) -> Fed:
        return Fed(positions=part.positions, inputs=inputs, targets=targets, size=part.size)

    # Of several labels a record has no class, so that policies by class are refused before.
    def _classes(self, positions: NDArray[np.int64]) -> NDArray[np.int64] | None:
        return self.targets[positions] if self.targets.ndim == 1 else None

    def _shares(self, targets: Tensor) -> Tensor:
        return (functional.one_hot(targets, self.num_classes) if targets.ndim == 1 else targets).float()

    # The views of a record take turns, from epoch to epoch and where it is drawn again.
    def _turned(self, raw: Tensor, part: Drawn, epoch: int, views: int) -> Tensor:
        turn = (epoch + part.times) % views
        images = torch.empty(self.batches.planes(raw).shape, device=self.batches.runtime.device)
        for view in np.unique(turn).tolist():
            chosen = np.flatnonzero(turn == view)
            index = torch.from_numpy(chosen)
            images[index.to(images.device)] = self._view(raw[index.to(raw.device)], part.positions[chosen], view)
        return images.contiguous(memory_format=self.batches.layout)

    def logits(self, model: Classifier, inputs: Tensor) -> Tensor:
        """Compute logits with gradients.

        Args:
            model: The model.
            inputs: Images (B, C, H, W).

        Returns:
            Logits (B, K).
        """
        with self.batches.runtime.autocast():
            found: Tensor = model(inputs)
        return found

    def predict(self, model: Classifier, positions: NDArray[np.int64], *, batch_size: int) -> Tensor:
        """Compute logits in evaluation mode.

        Args:
            model: The model.
            positions: Which records, (N,).
            batch_size: Records at a time.

        Returns:
            Logits (N, K), float32, on the device.
        """
        _, own = self.ranks.share(positions)
        return self.ranks.gather(forward(model, self.seen, own, batch_size=batch_size))
