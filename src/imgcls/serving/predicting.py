"""From an upload to an answer."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, DecodeError, UnsupportedModelError
from imgcls.data import images
from imgcls.evaluation.thresholds import parse_rule
from imgcls.inference.reading import Told
from imgcls.serving.answers import Answer, Result
from imgcls.serving.batching import Batcher
from imgcls.serving.limits import Limits
from imgcls.serving.served import Served
from imgcls.serving.uploads import Order, Refused, Upload

__all__ = ["Desk"]

Floats = NDArray[np.float64]
T = TypeVar("T")


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="imgcls-images")


def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="imgcls-")


@final
@attrs.frozen(kw_only=True, eq=False)
class Desk:
    """Answers orders.

    Attributes:
        served: The model.
        limits: How much is allowed.
        batcher: What predicts.
        threads: Decode and draw, as many at a time as there are processors, so that memory is bounded.
        scratch: Where images lie while they are decoded; one folder for all, since making one costs more than decoding.
        numbers: Their names.
    """

    served: Served
    limits: Limits
    batcher: Batcher[Told]
    threads: ThreadPoolExecutor = attrs.field(factory=_threads)
    scratch: tempfile.TemporaryDirectory[str] = attrs.field(factory=_scratch)
    numbers: Iterator[int] = attrs.field(factory=itertools.count)

    async def answer(self, order: Order) -> Answer:
        """Answer an order.

        Args:
            order: What is asked for.

        Returns:
            What the model says.

        Raises:
            Refused: if an image cannot be read, or there is no such threshold or no map.
        """
        decider = self.served.decider
        cuts = self._cuts(order)
        if order.maps and self.served.draw is None:
            raise Refused("'map' must be left out for an export, which gives no maps, got true; serve the run")
        pixels = await asyncio.gather(*(self._in_thread(self._read, file) for file in order.files))
        asked = [asyncio.wrap_future(self.batcher.submit(image)) for image in pixels]
        told = await asyncio.gather(*asked)
        probs = np.concatenate([one.probs for one in told])
        decided = decider.decide(probs, cuts)
        maps = await self._maps(pixels, probs, decided) if order.maps else [None] * len(pixels)
        named = [dict(zip(decider.classes, row, strict=True)) for row in probs.tolist()]
        beside = [_beside(one, other=order.threshold is not None) for one in told]
        parts = zip(order.files, named, decided, maps, beside, strict=True)
        return Answer(
            model=self.served.name,
            threshold=decider.decision if order.threshold is None else parse_rule(order.threshold).name,
            results=[
                Result(file=file.name, probs=by, decision=one, map=drawn, **more)
                for file, by, one, drawn, more in parts
            ],
        )

    def close(self) -> None:
        """End its threads."""
        self.threads.shutdown()
        self.batcher.close()
        self.scratch.cleanup()

    def _cuts(self, order: Order) -> Floats | None:
        try:
            return self.served.decider.cuts(order.threshold)
        except ConfigError as error:
            raise Refused(str(error)) from None

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)

    # The decoders want a file, whose name is theirs alone; it lies on disk no longer than it is read.
    def _read(self, upload: Upload) -> NDArray[Any]:
        suffix = Path(upload.name).suffix.lower()
        file = Path(self.scratch.name, f"{next(self.numbers)}{suffix if suffix in images.EXTENSIONS else ''}")
        try:
            file.write_bytes(upload.content)
            self._check_size(upload, images.header(file))
            return images.read(file, self.served.image)
        except DecodeError as error:
            text = str(error).replace(repr(str(file)), repr(upload.name))
            raise Refused(text, file=upload.name) from None
        finally:
            file.unlink(missing_ok=True)

    def _check_size(self, upload: Upload, header: images.Header) -> None:
        found = header.width * header.height / 1e6
        if found > self.limits.megapixels:
            raise Refused(
                f"image {upload.name!r} must have at most {self.limits.megapixels:g} megapixels, got {found:.1f}",
                status=413,
                file=upload.name,
            )

    # Of what was decided; of several labels of the most probable one.
    async def _maps(self, pixels: Sequence[NDArray[Any]], probs: Floats, decided: Sequence[str]) -> list[str | None]:
        classes, draw = self.served.decider.classes, self.served.draw
        assert draw is not None
        most = probs.argmax(axis=1).tolist()
        targets = [classes.index(name) if name in classes else top for name, top in zip(decided, most, strict=True)]
        try:
            drawn = [await self._in_thread(draw, *pair) for pair in zip(pixels, targets, strict=True)]
        except UnsupportedModelError as error:
            raise Refused(str(error)) from None
        return [f"data:image/png;base64,{base64.b64encode(one).decode()}" for one in drawn]


# When the model abstains goes with its own threshold.
def _beside(told: Told, *, other: bool) -> dict[str, Any]:
    found = {name: values.tolist()[0] for name, values in told.columns.items()}
    return {name: value for name, value in found.items() if not (other and name == "rejected")}
