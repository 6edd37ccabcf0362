"""The table of chance of an epoch: draws x parameters, any rows of which can be made alone."""

from __future__ import annotations

from typing import final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.core import options
from imgcls.core.randomness import derive_seed

__all__ = ["Rows", "repeated", "table"]

_BLOCK = 4  # numbers of 64 bits that Philox makes from one value of its counter
_NEAR = 64  # rows nearer than that are made together with those between them


def table(start: int, stop: int, *, columns: int, seed: int, epoch: int) -> Tensor:
    """Make consecutive rows of the table of an epoch.

    The generator is Philox (Salmon et al., 2011), whose n-th number is a function of n, so
    that a row costs the same wherever it stands.

    Args:
        start: The first row, 0 or more.
        stop: The row after the last.
        columns: Uniforms a row.
        seed: The seed of the fold.
        epoch: Which epoch, from 0.

    Returns:
        Uniforms (stop - start, columns) in [0, 1), float32, on the CPU.

    Examples:
        >>> whole = table(0, 9, columns=5, seed=1, epoch=2)
        >>> bool((table(3, 7, columns=5, seed=1, epoch=2) == whole[3:7]).all())
        True
    """
    blocks = -(-columns // _BLOCK)
    bits = np.random.Philox(key=derive_seed(seed, "augment", epoch), counter=start * blocks)
    raw = bits.random_raw((stop - start) * blocks * _BLOCK).reshape(stop - start, blocks * _BLOCK)[:, :columns]
    # 24 bits fill a float32 exactly; more would round up to 1.
    return torch.from_numpy((raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-24))


def repeated(draws: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find the draws whose record was drawn before in the epoch.

    Args:
        draws: Positions of the records in the order of the epoch, (M,).

    Returns:
        Whether each is a repeated draw, (M,).

    Examples:
        >>> repeated(np.array([5, 3, 5, 5])).tolist()
        [False, False, True, True]
    """
    found = np.ones(len(draws), np.bool_)
    found[np.unique(draws, return_index=True)[1]] = False
    return found


@final
@attrs.frozen(kw_only=True, eq=False)
class Rows:
    """Which rows of the table the images of a batch have.

    Attributes:
        seed: The seed of the fold.
        epoch: Which epoch, from 0.
        numbers: The draw of the epoch that each image is, (B,).
        labels: Class index of each image, (B,), which policies by class need, or None.
        repeated: Whether each image is a repeated draw of its record, (B,), which augmentation of
            repeated draws needs, or None.
    """

    seed: int = attrs.field(validator=options.seed())
    epoch: int = attrs.field(validator=options.count(0))
    numbers: NDArray[np.int64] = attrs.field(converter=np.asarray)
    labels: NDArray[np.int64] | None = attrs.field(default=None, converter=attrs.converters.optional(np.asarray))

    repeated: NDArray[np.bool_] | None = attrs.field(default=None, converter=attrs.converters.optional(np.asarray))

    def __attrs_post_init__(self) -> None:
        if self.numbers.ndim != 1 or (self.numbers < 0).any():
            raise options.rejected("numbers", "be a row of numbers of at least 0", self.numbers)
        for name, values in (("labels", self.labels), ("repeated", self.repeated)):
            if values is not None and values.shape != self.numbers.shape:
                raise options.rejected(name, f"have shape {self.numbers.shape}", values.shape)

    @classmethod
    def span(
        cls,
        start: int,
        count: int,
        *,
        seed: int,
        epoch: int,
        labels: NDArray[np.int64] | None = None,
        repeated: NDArray[np.bool_] | None = None,
    ) -> Rows:
        """Name consecutive draws, as the batches of an epoch are.

        Args:
            start: The first draw.
            count: How many.
            seed: The seed of the fold.
            epoch: Which epoch, from 0.
            labels: Class index of each, (count,), or None.
            repeated: Whether each is a repeated draw, (count,), or None.

        Returns:
            The rows.
        """
        numbers = np.arange(start, start + count)
        return cls(seed=seed, epoch=epoch, numbers=numbers, labels=labels, repeated=repeated)

    def uniforms(self, columns: int) -> Tensor:
        """Look the rows up.

        Args:
            columns: Uniforms a row. The table of another width is another table.

        Returns:
            Uniforms (B, columns) in [0, 1), float32, on the CPU.
        """
        if not len(self.numbers):
            return torch.empty(0, columns)
        numbers, places = np.unique(self.numbers, return_inverse=True)
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > _NEAR) + 1)
        return torch.cat([self._run(run, columns) for run in runs])[torch.from_numpy(places)]

    def _run(self, numbers: NDArray[np.int64], columns: int) -> Tensor:
        start, stop = int(numbers[0]), int(numbers[-1]) + 1
        found = table(start, stop, columns=columns, seed=self.seed, epoch=self.epoch)
        return found[torch.from_numpy(numbers - start)]
