"""A run's predictions beside what is reached without its models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds
from imgcls.evaluation.baselines import Known, baselines, judged_once
from imgcls.evaluation.looks import file_names, looks
from imgcls.evaluation.predictions import Predictions
from imgcls.runtime.sources import Source

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare_with_baselines", "known_of"]

#: Images that are looked at together.
_BLOCK = 256


def known_of(data: Dataset, source: Source | None, *, features: NDArray[Any] | None = None) -> Known:
    """Gather what is known of a set without a model.

    Args:
        data: The set of N images.
        source: Its pixels; None leaves out how images look.
        features: Of a network that was not trained on the set, (N, F), or None.

    Returns:
        What is known.
    """
    return Known(
        ids=data.ids,
        labels=data.labels,
        looks=None if source is None else looks(data, _blocks(data, source)),
        names=file_names(data),
        features=None if features is None else np.asarray(features, dtype=np.float64),
    )


def _blocks(data: Dataset, source: Source) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    readable = np.setdiff1d(np.arange(len(data)), list(source.bad))
    parts = [readable[start : start + _BLOCK] for start in range(0, len(readable), _BLOCK)]
    for part, raw in zip(parts, source.each(parts), strict=True):
        yield part, raw.cpu().numpy()


def compare_with_baselines(
    final: Predictions, folds: Folds, *, known: Known, tested: Known | None, seed: int
) -> pd.DataFrame:
    """Compare the predictions that a run reports with baselines that trained on the same records.

    Args:
        final: The predictions; of several repeats the first is compared.
        folds: The folds of the run.
        known: What is known of its set.
        tested: What is known of the test set, where it is another one.
        seed: Of resamples and permuted labels.

    Returns:
        What `baselines` returns.
    """
    count = len(folds) // folds.num_repeats
    trained: Sequence[NDArray[np.int64]] = [fold.train for fold in list(folds)[:count]]
    return baselines(judged_once(final), trained, known=known, tested=tested, seed=seed)
