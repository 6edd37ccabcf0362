"""Exported models that torch runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.core.errors import RunError
from imgcls.inference.exported import Description, Runner
from imgcls.inference.graph import Graph
from imgcls.inference.saved import SavedModel
from imgcls.models.base import Classifier, backbones

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
    parts = [
        {name.removeprefix(f"{number}."): value for name, value in weights.items() if name.startswith(f"{number}.")}
        for number in range(len(about.folds))
    ]
    pairs = zip(parts, about.statistics, strict=True)
    models = [_classifier(about, part, mean, std) for part, (mean, std) in pairs]
    return _runner(Graph(models, about.image, about.calibrations, multilabel=about.multilabel))


def _classifier(about: Description, weights: dict[str, Tensor], mean: Any, std: Any) -> Classifier:
    saved = SavedModel(
        **about.network,
        image=about.image,
        classes=about.classes,
        positive=about.positive,
        decision=about.decision,
        multilabel=about.multilabel,
    )
    model = backbones.create(saved.backbone).build(
        saved.num_outputs,
        in_channels=saved.image.channels,
        image_size=saved.image.size,
        head=saved.head,
        initial=False,
    )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(f"the weights of the export must fit its backbone, as it is installed here; {error}") from None
    model.facts = attrs.evolve(model.facts, mean=tuple(mean), std=tuple(std))
    return model.eval()


def _runner(module: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Runner:
    def run(pixels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        with torch.no_grad():
            probs, each = module(torch.from_numpy(pixels))
        return probs.numpy(), each.numpy()

    return run
