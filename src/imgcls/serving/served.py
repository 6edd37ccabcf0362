"""What is served: a run or an export, opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, RunError
from imgcls.data.spec import ImageSpec
from imgcls.inference.caution import Caution, Promises
from imgcls.inference.deciding import Decider
from imgcls.inference.exported import Description, open_exported
from imgcls.inference.reading import Told
from imgcls.inference.sealing import SUMS, check_sums

__all__ = ["Draw", "Served", "open_served"]

#: From pixels (H, W, C) and a class to a PNG file.
Draw = Callable[[NDArray[Any], int], bytes]

_NONE = Promises()

#: So many batches at a time at most, since each of them takes memory.
_MOST = 4


@attrs.frozen(kw_only=True, eq=False)
class Served:
    """What is served.

    Attributes:
        name: How it is called.
        kind: `run`, or the format of an export.
        image: The form of the images that the model takes.
        decider: What decides.
        tell: The model: from pixels (B, H, W, C) to what it says.
        caution: What it says beside a decision.
        draw: Draws a relevance map over an image; None where the model has none.
        at_a_time: Batches at a time, which share the processors: images come a few at a time, of which a network
            makes little use on several processors.
    """

    name: str
    kind: str
    image: ImageSpec
    decider: Decider
    tell: Callable[[NDArray[Any]], Told]
    caution: Caution = attrs.field(factory=Caution)
    draw: Draw | None = None
    at_a_time: int = 1


def open_served(path: str | Path, *, explainer: str = "grad-cam", promises: Promises = _NONE) -> Served:
    """Open a run or an export.

    Args:
        path: Its folder.
        explainer: What draws maps of a run.
        promises: Prediction sets and abstention of a run; an export has its own.

    Returns:
        What is served.

    Raises:
        RunError: if it is neither.
        ConfigError: if there are promises for an export.
    """
    folder = Path(path)
    if (folder / SUMS).exists():
        if promises != _NONE:
            raise ConfigError("'sets' and 'reject' must be given to 'export', got them for what was exported")
        return _exported(folder)
    if not (folder / "run.json").exists():
        raise RunError(f"'path' must name the folder of a finished run or of an export, got neither at {str(path)!r}")
    from imgcls.run import load_run  # needs torch, which an export does not
    from imgcls.serving.drawing import drawer

    run = load_run(folder)
    predictor, fitted = run.predictor, promises.fit(run.validated_once, run.thresholds, run.model.decision)
    caution = attrs.evolve(fitted, guard=predictor.guard)
    return Served(
        name=folder.resolve().name,
        kind="run",
        image=predictor.image,
        decider=predictor.decider,
        tell=partial(predictor.tell, caution=caution),
        caution=caution,
        draw=drawer(predictor, explainer),
        at_a_time=_at_a_time(),
    )


def _exported(folder: Path) -> Served:
    batches = _at_a_time()
    check_sums(folder)
    # The threads of a session help whichever batch is computed; each batch has its own beside them.
    model = open_exported(folder, Description.load(folder), threads=max(1, (os.cpu_count() or 1) - batches + 1))
    return Served(
        name=str(model.about.origin.get("name", folder.resolve().name)),
        kind=model.about.format,
        image=model.image,
        decider=model.decider,
        tell=partial(model.tell, caution=model.caution),
        caution=model.caution,
        at_a_time=batches,
    )


def _at_a_time() -> int:
    return min(os.cpu_count() or 1, _MOST)
