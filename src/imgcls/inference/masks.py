"""The masks of a run's images, in the form in which its models see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, DataError
from imgcls.core.progress import say
from imgcls.data.columns import MASK
from imgcls.data.dataset import Dataset
from imgcls.data.masks import fit_mask
from imgcls.data.spec import ImageSpec
from imgcls.explain.mask_scores import check_masks, fit_masks

__all__ = ["Masks", "find_masks"]


@attrs.frozen(kw_only=True, eq=False)
class Masks:
    """Masks of records, read when they are asked for.

    Attributes:
        data: The set.
        spec: The form of its images.
        given: Masks by id, or None for those of the set.
    """

    data: Dataset
    spec: ImageSpec
    given: Mapping[str, Any] | None

    def any(self, position: int) -> bool:
        """Look whether a record has a mask that is not empty.

        Args:
            position: Where it stands in the set.

        Returns:
            Whether it has.
        """
        return bool(self.of(position).any())

    def of(self, position: int) -> NDArray[np.float64]:
        """Read a mask and bring it to the form of the images.

        Args:
            position: Where its record stands in the set.

        Returns:
            (H, W) how much of each pixel lies inside, 0 to 1; zeros where the record has none.
        """
        if self.given is None:
            return self.data.mask(position, self.spec) / 255
        found = self.given.get(str(self.data.ids[position]))
        if found is None:
            return np.zeros(self.spec.size)
        mask = check_masks(np.asarray(found)[None])[0]
        shape = self.data.original(position).shape[:2]
        if mask.shape == shape and bool(np.isin(mask, (0, 1)).all()):
            return fit_mask(mask > 0, self.spec) / 255
        return fit_masks(mask[None], self.spec.size)[0]

    def stack(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Read masks, and say how many were given in another size than their image.

        Args:
            positions: Where their records stand in the set, (N,).

        Returns:
            (N, H, W) from 0 to 1.
        """
        other = [position for position in positions.tolist() if self._is_resized(position)]
        if other:
            shape, name = np.shape(self.given[str(self.data.ids[other[0]])]), self.data.ids[other[0]]  # type: ignore[index]
            say(f"{len(other)} masks have another size than their image, such as {shape} of {name!r}: resized by area")
        return np.stack([self.of(position) for position in positions.tolist()])

    def _is_resized(self, position: int) -> bool:
        found = None if self.given is None else self.given.get(str(self.data.ids[position]))
        return found is not None and np.shape(found) not in {self.data.original(position).shape[:2], self.spec.size}


def find_masks(data: Dataset, spec: ImageSpec, wanted: bool | Mapping[str, Any] | None) -> Masks | None:
    """Find the masks of a set.

    Args:
        data: The set.
        spec: The form of its images.
        wanted: True needs those of the set, None takes them where there are any, False none; or masks by id.

    Returns:
        The masks, or None.

    Raises:
        ConfigError: if `wanted` is none of that, or the set has no masks though it must.
        DataError: if masks are given for records that the set does not have.
    """
    if isinstance(wanted, Mapping):
        strangers = sorted(set(map(str, wanted)) - set(data.ids.tolist()))
        if strangers:
            raise DataError(f"'masks' must be of records of the set, by id, got {strangers[0]!r}")
        return Masks(data=data, spec=spec, given={str(name): mask for name, mask in wanted.items()})
    if wanted is not None and not isinstance(wanted, bool):
        raise ConfigError(f"'masks' must be True, False, None, or masks by id, got {type(wanted).__name__}")
    if wanted and MASK not in data.frame:
        raise ConfigError("'masks' must be left out for a set without masks, got True; open it with 'mask'")
    return Masks(data=data, spec=spec, given=None) if wanted is not False and MASK in data.frame else None
