"""What is served: a run or an export, opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from numpy.typing import NDArray

from imgcls.core.errors import RunError
from imgcls.data.spec import ImageSpec
from imgcls.inference.deciding import Decider, Probs
from imgcls.inference.exported import load_exported
from imgcls.inference.sealing import SUMS

__all__ = ["Draw", "Served", "open_served"]

#: From pixels (H, W, C) and a class to a PNG file.
Draw = Callable[[NDArray[Any], int], bytes]


@attrs.frozen(kw_only=True, eq=False)
class Served:
    """What is served.

    Attributes:
        name: How it is called.
        kind: `run`, or the format of an export.
        image: The form of the images that the model takes.
        decider: What decides.
        probs: The model.
        draw: Draws a relevance map over an image; None where the model has none.
    """

    name: str
    kind: str
    image: ImageSpec
    decider: Decider
    probs: Probs
    draw: Draw | None = None


def open_served(path: str | Path, *, explainer: str = "grad-cam") -> Served:
    """Open a run or an export.

    Args:
        path: Its folder.
        explainer: What draws maps of a run.

    Returns:
        What is served.

    Raises:
        RunError: if it is neither.
    """
    folder = Path(path)
    if (folder / SUMS).exists():
        model = load_exported(folder)
        name = str(model.about.origin.get("name", folder.resolve().name))
        return Served(name=name, kind=model.about.format, image=model.image, decider=model.decider, probs=model.probs)
    if not (folder / "run.json").exists():
        raise RunError(f"'path' must name the folder of a finished run or of an export, got neither at {str(path)!r}")
    from imgcls.run import load_run  # needs torch, which an export does not
    from imgcls.serving.drawing import drawer

    run = load_run(folder)
    return Served(
        name=folder.resolve().name,
        kind="run",
        image=run.predictor.image,
        decider=run.predictor.decider,
        probs=run.predictor.probs,
        draw=drawer(run.predictor, explainer),
    )
