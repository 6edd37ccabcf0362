"""Black and white, as a network gets them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imgcls.models.base import Classifier

__all__ = ["bounds"]


def bounds(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Give the lowest and highest values that pixels can have.

    Args:
        model: Whose facts say how images are normalised.
        images: (B, C, H, W).

    Returns:
        Two tensors of the shape of the images; where nobody knows the normalisation, the extremes of each image.
    """
    if isinstance(model, Classifier):
        mean, std = (torch.tensor(v).to(images).view(1, -1, 1, 1) for v in (model.facts.mean, model.facts.std))
        low, high = -mean / std, (1 - mean) / std
        if low.shape[1] == images.shape[1]:
            return low.expand_as(images), high.expand_as(images)
    low, high = (edge(images, dim=(2, 3), keepdim=True) for edge in (torch.amin, torch.amax))
    return low.expand_as(images), high.expand_as(images)
