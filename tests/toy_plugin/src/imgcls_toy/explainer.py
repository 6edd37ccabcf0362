"""An explainer in three lines."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor, nn

from imgcls.explain.base import Explainer, scores

__all__ = ["ToyGradient"]


@final
@attrs.frozen(kw_only=True)
class ToyGradient(Explainer):
    """Gradient times input, summed over the channels."""

    conserves: ClassVar[bool] = False

    def attribute(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """Compute the maps.

        Args:
            model: The model.
            images: (B, C, H, W), a leaf that requires gradients.
            target: (B,) the class of each image.

        Returns:
            Maps (B, H, W).
        """
        (gradient,) = torch.autograd.grad(scores(model(images), target).sum(), images)
        return (gradient * images).sum(dim=1)
