"""How a set reaches its files and pixels."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, DataError, nearest
from imgcls.data import files, headers, images, masks, memory
from imgcls.data.columns import MASK, VIEW, view_column
from imgcls.data.file_readers import MASK_THRESHOLD
from imgcls.data.records import companion_columns
from imgcls.data.spec import ImageSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Access"]


@attrs.frozen(kw_only=True, eq=False)
class Access:
    """What of a `Dataset` is about files and pixels; its fields are described there."""

    frame: pd.DataFrame
    root: Path | None = None
    arrays: memory.Pixels | None = None
    sizes: NDArray[np.int64] | None = None
    rows: NDArray[np.int64] | None = None
    mask_threshold: float = MASK_THRESHOLD

    @functools.cached_property
    def ids(self) -> NDArray[np.str_]:
        """What names each record, (N,)."""
        return self.frame["id"].to_numpy(dtype=np.str_)

    @property
    def views(self) -> tuple[str, ...]:
        """The names of other pictures of the same records."""
        return tuple(name.removeprefix(VIEW) for name in self.frame.columns if name.startswith(VIEW))

    def times(self, view: str | None = None) -> NDArray[np.int64]:
        """Look when the files were changed last.

        Args:
            view: Another picture of the records, `mask`, or None for the images.

        Returns:
            Nanoseconds (N,).

        Raises:
            DataError: if the set has no files, or they are not those that it was opened with.
        """
        column = self._column(view)
        row = ["id", *companion_columns(self.frame)].index(column)
        sizes, times = files.facts(self._root(), self.frame[column].tolist(), self.rows)
        changed = np.flatnonzero(sizes != self._sizes()[row])
        if len(changed):
            name = self.frame[column].iloc[changed[0]]
            got = f"got {len(changed)} of another size, such as {name!r}; open the set again"
            raise DataError(f"files must not change while the set is open, {got}")
        return times

    def _column(self, view: str | None) -> str:
        if view is None:
            return "id"
        column = MASK if view == MASK else view_column(view)
        if column not in self.frame:
            known = self.views + ((MASK,) if MASK in self.frame else ())
            raise ConfigError(f"'view' must be another picture of the records, got {view!r}; {nearest(view, known)}")
        return column

    def _root(self) -> Path:
        if self.root is None:
            raise DataError("'data' must have files, got images in memory")
        return self.root

    def path(self, position: int, *, view: str | None = None) -> Path:
        """Name the file of a record.

        Args:
            position: Which record.
            view: Another picture of the record, `mask`, or None for the image.

        Returns:
            The file's path.

        Raises:
            ConfigError: if there is no such view.
            DataError: if the set has no files.
        """
        return self._root() / str(self.frame[self._column(view)].iloc[position])

    def original(self, position: int, *, view: str | None = None) -> NDArray[Any]:
        """Decode one image as it is.

        Args:
            position: Which record.
            view: Another picture of the record, or None.

        Returns:
            Pixels (height, width, 1 or 3), upright: uint8, or uint16 or float32 for deeper images.
        """
        if self.arrays is not None and view is None:
            image = self._held(position)
            return image if image.ndim == 3 else image[..., None]
        return images.original(self._file(position, view))

    # What another library gives may fail in any way; the error names the record.
    def _held(self, position: int) -> NDArray[Any]:
        assert self.arrays is not None
        with headers.named(f"image {str(self.ids[position])!r}"):
            image: NDArray[Any] = self.arrays[position]
        return image

    def _file(self, position: int, view: str | None = None) -> Path:
        path = self.path(position, view=view)
        files.refuse_outside(self._real_root, path)
        return path

    @functools.cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self._root())

    def pixels(self, position: int, spec: ImageSpec, *, view: str | None = None) -> NDArray[Any]:
        """Decode one image into the form of a spec.

        Args:
            position: Which record.
            spec: The form.
            view: Another picture of the record, `mask`, or None. Of a mask the pixels say how
                much of each lies inside, from 0 to 255.

        Returns:
            Pixels (height, width, channels) from 0 to the spec's highest level; 1 channel for masks.
        """
        if view == MASK:
            return self.mask(position, spec)[..., None]
        if self.arrays is not None and view is None:
            image = self._held(position)
            with headers.named(f"image {str(self.ids[position])!r}"):
                return images.decode(image, spec)
        return images.read(self._file(position, view), spec)

    def original_mask(self, position: int) -> NDArray[np.bool_] | None:
        """Read the mask of a record as it is.

        Args:
            position: Which record.

        Returns:
            Where the region of interest is, (height, width) of the upright image; None where
            the record has no mask.
        """
        if MASK not in self.frame or not self.frame[MASK].iloc[position]:
            return None
        header = images.header(self._file(position))
        return masks.read_mask(self._file(position, MASK), threshold=self.mask_threshold, header=header)

    def mask(self, position: int, spec: ImageSpec) -> NDArray[np.uint8]:
        """Bring the mask of a record through the geometry of its image.

        Args:
            position: Which record.
            spec: The form of the images.

        Returns:
            How much of each pixel lies inside, (height, width) from 0 to 255; zeros where the
            record has no mask.
        """
        found = self.original_mask(position)
        return np.zeros(spec.size, np.uint8) if found is None else masks.fit_mask(found, spec)

    def _sizes(self) -> NDArray[np.int64]:
        assert self.sizes is not None
        return self.sizes
