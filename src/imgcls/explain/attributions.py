"""What an explainer found on a batch: maps in floats, and all that is needed to judge them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs
import numpy as np
import numpy.typing as npt

from imgcls.core.errors import DataError, RunError
from imgcls.core.folders import whole

__all__ = ["Attributions"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: The fields with one entry per image, and how many axes each has.
_COLUMNS = {"maps": 3, "native": 3, "logits": 2, "target": 1, "score": 1, "conserved": 1, "valid": 1}


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float32)


def _ints(values: npt.ArrayLike) -> Ints:
    return np.asarray(values, dtype=np.int64)


def _bools(values: npt.ArrayLike) -> Bools:
    return np.asarray(values, dtype=np.bool_)


def _mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(values)


@attrs.frozen(kw_only=True, eq=False)
class Attributions:
    """Relevance maps of B images, raw: nothing in here is scaled for display.

    Attributes:
        maps: (B, H, W) relevance at the size of the images, signed. Zeros where `native` is
            not finite.
        native: (B, h, w) relevance as the method gave it, before it was resized.
        logits: (B, K) what the model said.
        target: (B,) the class that is explained.
        score: (B,) the number that is explained: the logit of the target; with a head of one
            logit that logit for class 1 and minus that logit for class 0.
        conserved: (B,) sum of `native` over `score`, 1 where all relevance arrived; None for
            methods that do not distribute the score.
        valid: (B,) whether the map is finite and not zero everywhere. A map that is not valid
            says nothing of its image and must not be averaged or scored.
        provenance: How the maps were made: method, options, layer, versions.

    Raises:
        DataError: if the parts do not fit together.
    """

    maps: Floats = attrs.field(converter=_floats)
    native: Floats = attrs.field(converter=_floats)
    logits: Floats = attrs.field(converter=_floats)
    target: Ints = attrs.field(converter=_ints)
    score: Floats = attrs.field(converter=_floats)
    conserved: Floats | None = attrs.field(default=None, converter=attrs.converters.optional(_floats))
    valid: Bools = attrs.field(converter=_bools)
    provenance: Mapping[str, Any] = attrs.field(factory=dict, converter=_mapping)

    def __attrs_post_init__(self) -> None:
        for name, axes in _COLUMNS.items():
            value = getattr(self, name)
            if value is not None and (value.ndim != axes or len(value) != len(self.maps)):
                raise DataError(f"'{name}' must have {axes} axes and {len(self.maps)} entries, got {value.shape}")

    def __len__(self) -> int:
        return len(self.maps)

    def take(self, positions: Bools | Ints | Sequence[int]) -> Self:
        """Pick images.

        Args:
            positions: A mask (B,) or positions.

        Returns:
            Their attributions, in the order of `positions`.
        """
        chosen = np.asarray(positions)
        if not chosen.size:
            chosen = chosen.astype(np.int64)
        return attrs.evolve(self, **{name: value[chosen] for name, value in self._columns().items()})

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """Put attributions one after the other, such as those of several batches.

        Args:
            parts: Attributions by one method on images of one size.

        Returns:
            All images.

        Raises:
            DataError: if there are none or they do not fit together.
        """
        if not parts:
            raise DataError("'parts' must hold attributions, got none")
        for part in parts:
            if part._kind() != parts[0]._kind():
                raise DataError(
                    "'parts' must be of one method, one size and one number of classes, "
                    f"got {parts[0]._kind()} and {part._kind()}"
                )
        columns = [part._columns() for part in parts]
        joined: dict[str, Any] = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
        return attrs.evolve(parts[0], **joined)

    def save(self, path: Path | str) -> None:
        """Write an npz file, whole or not at all; the maps stay floats.

        Args:
            path: The file.
        """
        provenance = np.asarray(json.dumps(self.provenance))
        with whole(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, provenance=provenance, **self._columns())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote.

        Args:
            path: The file.

        Returns:
            The attributions.

        Raises:
            RunError: if the file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                columns = {key: file[key] for key in file.files}
            return cls(**{**columns, "provenance": json.loads(str(columns["provenance"]))})
        except FileNotFoundError:
            raise RunError(f"'path' must name an existing file, got {str(path)!r}") from None
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise RunError(f"'path' must name saved attributions, got {str(path)!r}; it is damaged: {error}") from None

    def _columns(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _COLUMNS if getattr(self, name) is not None}

    # What must agree for two of them to be put together.
    def _kind(self) -> tuple[Any, ...]:
        shapes = {name: value.shape[1:] for name, value in self._columns().items()}
        return self.provenance.get("method"), self.provenance.get("options"), shapes
