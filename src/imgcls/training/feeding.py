"""What training takes its steps from: drawn records as a model sees them, with their targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, final

import attrs
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imgcls.models.base import Classifier
from imgcls.runtime.ranks import Ranks

__all__ = ["Drawn", "Fed", "Feed", "drawn"]


@final
@attrs.frozen(kw_only=True, eq=False)
class Fed:
    """What a model sees in one step.

    Attributes:
        positions: Which records, (B,).
        inputs: Normalised images (B, C, H, W), or features (B, F), float32, on the device.
        targets: Class indices (B,), or shares (B, K) of the classes.
        size: How many records the batch of all processes has.
    """

    positions: NDArray[np.int64]
    inputs: Tensor
    targets: Tensor
    size: int


class Feed(Protocol):
    """Gives training its steps, and says how a model takes them."""

    def prepared(self, model: Classifier, train: NDArray[np.int64], val: NDArray[np.int64]) -> Feed:
        """Get ready for a stage, of whose model some parts are frozen now."""

    def each(self, draws: Sequence[NDArray[np.int64]], epoch: int, *, skip: int) -> Iterator[Fed]:
        """Make the steps of an epoch: this process's share of each, but for the first `skip`."""

    def logits(self, model: Classifier, inputs: Tensor) -> Tensor:
        """Compute logits (B, K) of what `each` made, with gradients."""

    def predict(self, model: Classifier, positions: NDArray[np.int64], *, batch_size: int) -> Tensor:
        """Compute logits (N, K) of records in evaluation mode, without augmentation."""


@final
@attrs.frozen(kw_only=True, eq=False)
class Drawn:
    """This process's share of a batch.

    Attributes:
        positions: Which records, (B,).
        numbers: Which draw of the epoch each is, (B,).
        times: How often its record was drawn before in the epoch, (B,).
        size: How many records the batch of all processes has.
    """

    positions: NDArray[np.int64]
    numbers: NDArray[np.int64]
    times: NDArray[np.int64]
    size: int


def drawn(draws: Sequence[NDArray[np.int64]], ranks: Ranks) -> list[Drawn]:
    """Give a process its share of the batches of an epoch.

    Args:
        draws: Positions (B,) of each batch.
        ranks: Which process it is.

    Returns:
        Its share of each.
    """
    starts = np.cumsum([0, *map(len, draws)])
    times = _times(np.concatenate(draws))
    found = []
    for start, draw in zip(starts, draws, strict=False):
        begin, positions = ranks.share(draw)
        numbers = np.arange(start + begin, start + begin + len(positions))
        found.append(Drawn(positions=positions, numbers=numbers, times=times[numbers], size=len(draw)))
    return found


# How often each was drawn before.
def _times(draws: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(draws, kind="stable")
    ordered = draws[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=-1))
    sizes = np.diff(begins, append=len(draws))
    found = np.empty(len(draws), dtype=np.int64)
    found[order] = np.arange(len(draws)) - np.repeat(begins, sizes)
    return found
