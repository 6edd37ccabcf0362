"""From an upload to an answer."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, UnsupportedModelError
from imgcls.data.images import InMemory
from imgcls.evaluation.thresholds import parse_rule
from imgcls.inference.reading import Told
from imgcls.serving.answers import Answer, Result
from imgcls.serving.batching import Batcher, BusyError
from imgcls.serving.looking import Seen
from imgcls.serving.served import Served
from imgcls.serving.uploads import Order, Refused

__all__ = ["Desk"]

Floats = NDArray[np.float64]


@final
@attrs.frozen(kw_only=True, eq=False)
class Desk:
    """Answers orders.

    Attributes:
        served: The model.
        batcher: What decodes and predicts.
    """

    served: Served
    batcher: Batcher[InMemory, Seen]

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
        seen = await asyncio.gather(*self._submitted(order.files))
        probs = np.concatenate([one.told.probs for one in seen])
        decided = decider.decide(probs, cuts)
        maps = await self._maps(seen, probs, decided) if order.maps else [None] * len(seen)
        named = [dict(zip(decider.classes, row, strict=True)) for row in probs.tolist()]
        beside = [_beside(one.told, other=order.threshold is not None) for one in seen]
        parts = zip(order.files, named, decided, maps, beside, strict=True)
        return Answer(
            model=self.served.name,
            threshold=decider.decision if order.threshold is None else parse_rule(order.threshold).name,
            results=[
                Result(file=file.name, probs=by, decision=one, map=drawn, **more)
                for file, by, one, drawn, more in parts
            ],
        )

    # All or none.
    def _submitted(self, files: Sequence[InMemory]) -> list[asyncio.Future[Seen]]:
        found: list[asyncio.Future[Seen]] = []
        try:
            for file in files:
                found.append(asyncio.wrap_future(self.batcher.submit(file)))  # noqa: PERF401 (those before are needed)
        except BusyError:
            for one in found:
                one.cancel()
            raise
        return found

    def _cuts(self, order: Order) -> Floats | None:
        try:
            return self.served.decider.cuts(order.threshold)
        except ConfigError as error:
            raise Refused(str(error)) from None

    # Of what was decided; of several labels of the most probable one.
    async def _maps(self, seen: Sequence[Seen], probs: Floats, decided: Sequence[str]) -> list[str | None]:
        classes, draw = self.served.decider.classes, self.served.draw
        assert draw is not None
        most = probs.argmax(axis=1).tolist()
        targets = [classes.index(name) if name in classes else top for name, top in zip(decided, most, strict=True)]
        try:
            drawn = [await asyncio.to_thread(draw, one.pixels, to) for one, to in zip(seen, targets, strict=True)]
        except UnsupportedModelError as error:
            raise Refused(str(error)) from None
        return [f"data:image/png;base64,{base64.b64encode(one).decode()}" for one in drawn]


# When the model abstains goes with its own threshold.
def _beside(told: Told, *, other: bool) -> dict[str, Any]:
    found = {name: values.tolist()[0] for name, values in told.columns.items()}
    return {name: value for name, value in found.items() if not (other and name == "rejected")}
