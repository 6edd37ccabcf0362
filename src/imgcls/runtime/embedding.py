"""The features that a backbone gives for every image of a set."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from imgcls.core import config
from imgcls.core.progress import progress
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec
from imgcls.models.base import backbones
from imgcls.runtime.batches import Batches, chunks
from imgcls.runtime.device import Runtime, pick_device
from imgcls.runtime.sources import open_source, resolved

__all__ = ["embed"]


def embed(
    data: Dataset,
    *,
    backbone: Any = "resnet18",
    image: ImageSpec | dict[str, Any] | None = None,
    batch_size: int = 32,
    device: str = "auto",
    seed: int = 0,
) -> NDArray[np.float32]:
    """Compute the features of a backbone, as they go into a head, such as for `Dataset.check`.

    Args:
        data: The set of N images.
        backbone: A backbone, its name or its spec, with pretrained weights if they are to mean
            something.
        image: The form of the images; default is 224 x 224 in colour.
        batch_size: Images at a time.
        device: `"auto"` or a torch device.
        seed: The seed of random weights.

    Returns:
        Features (N, D), computed in full precision.
    """
    spec = config.nested(ImageSpec, image or ImageSpec(), path="image")
    model = backbones.create(backbone).build(1, in_channels=spec.channels, image_size=spec.size, seed=seed)
    if spec.mean is None:
        spec = attrs.evolve(spec, mean=model.facts.mean, std=model.facts.std)
    runtime = Runtime(device=pick_device(device))
    source = open_source(data, spec).to(runtime.device)
    everything = np.arange(len(data))
    batches = Batches.over(source, runtime, spec=resolved(spec, source, everything))
    body, parts = runtime.place(model.body).eval(), list(chunks(everything, batch_size))
    found = []
    with torch.no_grad(), progress("Embedding", len(data)) as advance:
        for part, images in zip(parts, batches.each(parts), strict=True):
            found.append(body(images).float().cpu().numpy())
            advance(len(part))
    return np.concatenate(found)
