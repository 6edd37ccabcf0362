"""From image files to rows: probabilities, decisions, and why a file could not be read. Without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.errors import DecodeError
from imgcls.data import images
from imgcls.data.spec import ImageSpec
from imgcls.inference.deciding import Decider, Floats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ON_ERROR", "Paths", "Reading", "Told"]

#: What may be done about a file that cannot be read.
ON_ERROR = ("raise", "row")

#: One file or several.
Paths = str | Path | Iterable[str | Path]


@final
@attrs.frozen(kw_only=True, eq=False)
class Told:
    """What M models say of B images.

    Attributes:
        probs: (B, K), the mean over the models.
        each: (M, B, K).
        columns: Further columns, (B,) each.
    """

    probs: Floats
    each: Floats
    columns: Mapping[str, NDArray[Any]] = attrs.field(factory=dict)

    def apart(self) -> list[Told]:
        """Take the images apart.

        Returns:
            What is said of each image, B of them.
        """
        return [
            Told(
                probs=self.probs[at : at + 1],
                each=self.each[:, at : at + 1],
                columns={name: values[at : at + 1] for name, values in self.columns.items()},
            )
            for at in range(len(self.probs))
        ]


@final
@attrs.frozen(kw_only=True, eq=False)
class Reading:
    """How files become rows.

    Attributes:
        tell: The models: from pixels (B, H, W, C) to what they say.
        num_models: How many they are; several have a `spread`.
        image: The form of the images that they take.
        decider: What decides.
        cuts: The thresholds, as `Decider.cuts` gives them.
        batch_size: Images at a time.
        on_error: What is done about a file that cannot be read: `raise`, or `row`, a row with an `error` and an empty
            decision.
        columns: The names of further columns that `tell` gives.
    """

    tell: Callable[[NDArray[Any]], Told]
    num_models: int
    image: ImageSpec
    decider: Decider
    cuts: Floats | None
    batch_size: int = attrs.field(default=32, validator=options.count())
    on_error: str = attrs.field(default="raise", validator=options.choice(*ON_ERROR))
    columns: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The columns in order: path, probabilities, decision, and what there is besides."""
        probs = [f"prob_{name}" for name in self.decider.classes]
        spread = ["spread"] if self.num_models > 1 else []
        return ["path", *probs, "decision", *spread, *self.columns, *(["error"] if self.on_error == "row" else [])]

    def rows(self, paths: Paths) -> Iterator[dict[str, Any]]:
        """Predict files, a batch at a time; no more of an endless sequence is taken than that.

        Args:
            paths: The files, or one.

        Yields:
            A row an image, in order.

        Raises:
            DecodeError: if a file cannot be read and `on_error` is `raise`.
        """
        files = iter([paths] if isinstance(paths, str | Path) else paths)
        while batch := [Path(path) for path in islice(files, self.batch_size)]:
            yield from self._batch(batch)

    def table(self, paths: Paths) -> pd.DataFrame:
        """Predict files.

        Args:
            paths: The files, or one.

        Returns:
            A row an image.
        """
        import pandas as pd

        table = pd.DataFrame(list(self.rows(paths)), columns=self.names)
        return table.astype({name: np.float64 for name in self.names if name.startswith("prob_") or name == "spread"})

    def _batch(self, files: Sequence[Path]) -> Iterator[dict[str, Any]]:
        found = [self._read(file) for file in files]
        readable = [one for one in found if not isinstance(one, str)]
        good = iter(self._told(np.stack(readable)) if readable else ())
        for file, one in zip(files, found, strict=True):
            row = self._unread(one) if isinstance(one, str) else next(good)
            yield {"path": str(file), **row}

    def _read(self, file: Path) -> NDArray[Any] | str:
        try:
            return images.read(file, self.image)
        except DecodeError as error:
            if self.on_error == "raise":
                raise
            return str(error)

    def _unread(self, error: str) -> dict[str, Any]:
        numbers = [name for name in self.names if name.startswith("prob_") or name in {"spread", "distance"}]
        return {**dict.fromkeys(self.columns, ""), **dict.fromkeys(numbers, np.nan), "decision": "", "error": error}

    def _told(self, pixels: NDArray[Any]) -> Iterator[dict[str, Any]]:
        told = self.tell(pixels)
        columns = {f"prob_{name}": told.probs[:, index] for index, name in enumerate(self.decider.classes)}
        parts: dict[str, list[Any]] = {name: values.tolist() for name, values in columns.items()}
        parts["decision"] = self.decider.decide(told.probs, self.cuts)
        if self.num_models > 1:
            parts["spread"] = self.decider.spread(told.each, self.cuts).tolist()
        parts |= {name: values.tolist() for name, values in told.columns.items()}
        if self.on_error == "row":
            parts["error"] = [""] * len(pixels)
        for values in zip(*parts.values(), strict=True):
            yield dict(zip(parts, values, strict=True))
