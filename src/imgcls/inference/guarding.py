"""A guard against images unlike the training data, and the training images that are nearest; without torch.

An image is far from what a model learned if its embedding is far from those of the training records: the Mahalanobis
distance to their mean (as in Lee, Lee, Lee and Shin 2018, "A simple unified framework for detecting out-of-distribution
samples and adversarial attacks", here of all classes together), with the covariance shrunk as in Ledoit and Wolf 2004,
since there may be fewer records than features. Each fold has embeddings of its own, so its distances are divided by a
limit that nearly all of its validation records keep, which it did not train on; the folds are then averaged.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DataError, RunError
from imgcls.core.folders import whole

__all__ = ["SHARE", "Guard", "Known", "Near"]

Floats = NDArray[np.float32]

#: The share of validation records of each fold that lies within its limit.
SHARE = 0.99

#: Below this a limit means nothing: all validation records are copies of training records.
_LEAST = 1e-3


@final
@attrs.frozen(kw_only=True, eq=False)
class Known:
    """What the model of one fold knows.

    Attributes:
        features: The embeddings of its N training records, of unit length, (N, D), float16.
        records: Which records these are, (N,).
        mean: Their mean before that, (D,).
        precision: The inverse of their covariance, (D, D).
        limit: The distance that counts as 1.
    """

    features: NDArray[np.float16]
    records: NDArray[np.int64]
    mean: Floats
    precision: Floats
    limit: float

    @classmethod
    def fit(cls, train: Floats, records: NDArray[np.int64], val: Floats) -> Known:
        """Fit the limit of a fold.

        Args:
            train: Embeddings of training records, (N, D).
            records: Which these are, (N,).
            val: Embeddings of records that the model did not train on, (V, D).

        Returns:
            What the model knows. The limit is the quantile of a new record in split conformal prediction; of fewer than
            99 validation records it is the largest distance, which one new record in V + 1 exceeds.

        Raises:
            DataError: if there are no validation records.
        """
        if not len(val):
            raise DataError("'val' must have records for a guard, got none; its limit is fitted on them")
        from sklearn.covariance import LedoitWolf

        shape = LedoitWolf().fit(train.astype(np.float64))
        parts = {"mean": shape.location_.astype(np.float32), "precision": shape.precision_.astype(np.float32)}
        found = cls(features=_unit(train).astype(np.float16), records=records, limit=1.0, **parts)
        return found.limited(val)

    def limited(self, val: Floats) -> Known:
        """Fit the limit alone.

        Args:
            val: As for `fit`, at least one.

        Returns:
            The same with another limit.
        """
        rank = min(math.ceil((len(val) + 1) * SHARE), len(val))
        limit = self.limit * float(np.sort(self.distance(val))[rank - 1])
        return attrs.evolve(self, limit=max(limit, _LEAST))

    def distance(self, features: Floats) -> Floats:
        """Measure how far images are from the training data.

        Args:
            features: Embeddings of B images, (B, D).

        Returns:
            (B,), in units of the limit.
        """
        away = features.astype(np.float64) - self.mean
        squares = ((away @ self.precision.astype(np.float64)) * away).sum(axis=1)
        found: Floats = (np.sqrt(np.maximum(squares, 0)) / self.limit).astype(np.float32)
        return found

    def likeness(self, features: Floats) -> Floats:
        """Compare images with each training record.

        Args:
            features: Embeddings of B images, (B, D).

        Returns:
            The cosines of their angles, (B, N).
        """
        found: Floats = _unit(features) @ self.features.astype(np.float32).T
        return found


@final
@attrs.frozen(kw_only=True, eq=False)
class Near:
    """What a guard says of B images.

    Attributes:
        distance: (B,) the distance to the training data; 1 is the limit.
        records: The nearest training records of each, the nearest first, (B, n).
    """

    distance: Floats
    records: NDArray[np.int64]

    @property
    def unlike(self) -> NDArray[np.bool_]:
        """Whether each is unlike the training data, (B,)."""
        return self.distance > 1


@final
@attrs.frozen(kw_only=True, eq=False)
class Guard:
    """Tells images that are unlike the training data, and names the training images that are nearest.

    Attributes:
        folds: What the model of each fold knows.
        ids: The ids of all N records of the set.
        labels: The names of their classes, of several labels with `|` between.
    """

    folds: tuple[Known, ...] = attrs.field(converter=tuple[Known, ...])
    ids: NDArray[np.str_]
    labels: NDArray[np.str_]

    def near(self, features: Sequence[Floats], *, neighbours: int = 0) -> Near:
        """Compare images with the training data.

        Args:
            features: The embeddings of the images by the model of each fold, (B, D) each.
            neighbours: How many of the nearest training records are wanted.

        Returns:
            How far they are, and what is nearest: by the mean cosine over the models that trained on a record.
        """
        pairs = list(zip(self.folds, features, strict=True))
        distance = np.mean([known.distance(own) for known, own in pairs], axis=0)
        parts = [known.likeness(own) for known, own in pairs] if neighbours else []
        wanted = self._nearest(parts, neighbours) if neighbours else np.empty((len(distance), 0), dtype=np.int64)
        return Near(distance=distance, records=wanted)

    def _nearest(self, parts: Sequence[Floats], count: int) -> NDArray[np.int64]:
        total = np.zeros((len(parts[0]), len(self.ids)), dtype=np.float32)
        times = np.zeros(len(self.ids), dtype=np.float32)
        for known, part in zip(self.folds, parts, strict=True):
            total[:, known.records] += part
            times[known.records] += 1
        means = np.where(times > 0, total / np.maximum(times, 1), -np.inf)
        return np.argsort(-means, axis=1, kind="stable")[:, : min(count, int((times > 0).sum()))]

    def without_records(self) -> Guard:
        """Leave out what it knows of each training record, for people who may not have it.

        Returns:
            The same distances, without neighbours.
        """
        none = np.zeros(0, dtype=np.int64)
        folds = [attrs.evolve(known, features=known.features[:0], records=none) for known in self.folds]
        return Guard(folds=folds, ids=self.ids[:0], labels=self.labels[:0])

    def save(self, path: Path) -> None:
        """Write an npz file, whole or not at all.

        Args:
            path: The file.
        """
        columns: dict[str, Any] = {
            "ids": self.ids,
            "labels": self.labels,
            "limits": np.array([known.limit for known in self.folds]),
        }
        for number, known in enumerate(self.folds):
            columns |= {f"features_{number}": known.features, f"records_{number}": known.records}
            columns |= {f"mean_{number}": known.mean, f"precision_{number}": known.precision}
        with whole(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **columns)

    @classmethod
    def load(cls, path: Path) -> Guard:
        """Read what `save` wrote.

        Args:
            path: The file.

        Returns:
            The guard.

        Raises:
            RunError: if the file is damaged.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
            names = ("features", "records", "mean", "precision")
            folds = [
                Known(limit=limit, **{name: found[f"{name}_{number}"] for name in names})
                for number, limit in enumerate(found["limits"].tolist())
            ]
            return cls(folds=folds, ids=found["ids"], labels=found["labels"])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise RunError(f"guard {str(path)!r} must be as it was written, got {error}; delete it") from None


def _unit(features: Floats) -> Floats:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    found: Floats = (features / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
    return found
