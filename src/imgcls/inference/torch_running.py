"""Exported models that torch runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.core.errors import RunError
from imgcls.inference.exported import Answer, Description, Runner
from imgcls.inference.graph import Graph
from imgcls.inference.saved import SavedModel
from imgcls.models.base import Classifier

__all__ = ["program_runner", "weights_runner"]


def program_runner(file: Path) -> Runner:
    """Run a program of `torch.export`.

    Args:
        file: The file.

    Returns:
        The model, on the CPU.
    """
    return _runner(torch.export.load(file).module())


def weights_runner(file: Path, about: Description) -> Runner:
    """Build networks again and give them their weights.

    Args:
        file: The weights of all models, the names of each with its number before them.
        about: What they are.

    Returns:
        The model, on the CPU.
    """
    from safetensors.torch import load_file

    weights = load_file(file)
    saved = SavedModel(
        **about.network,
        image=about.image,
        classes=about.classes,
        positive=about.positive,
        decision=about.decision,
        multilabel=about.multilabel,
    )
    parts = [
        {name.removeprefix(f"{number}."): value for name, value in weights.items() if name.startswith(f"{number}.")}
        for number in range(len(about.folds))
    ]
    models = [_classifier(saved, *pair) for pair in zip(parts, about.statistics, strict=True)]
    return _runner(Graph(models, about.image, about.calibrations, multilabel=about.multilabel))


def _classifier(saved: SavedModel, weights: dict[str, Tensor], statistics: Any) -> Classifier:
    try:
        return saved.built(weights, statistics)
    except RuntimeError as error:
        raise RunError(f"the weights of the export must fit its backbone, as it is installed here; {error}") from None


def _runner(module: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]) -> Runner:
    def run(pixels: NDArray[Any]) -> Answer:
        with torch.no_grad():
            probs, each, embeddings = module(torch.from_numpy(pixels))
        return Answer(probs=probs.numpy(), each=each.numpy(), embeddings=embeddings.numpy())

    return run
