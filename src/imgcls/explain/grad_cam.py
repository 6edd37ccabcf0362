"""Class activation maps weighted by gradients, through pytorch-grad-cam."""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar, final

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from imgcls.core.errors import UnsupportedModelError
from imgcls.explain.base import Explainer, scores
from imgcls.models.base import Classifier, Facts

__all__ = ["GradCam"]


@final
@attrs.frozen(kw_only=True)
class GradCam(Explainer):
    """Grad-CAM: the channels of the last feature map, weighted by their mean gradient.

    For image i with score s and feature map A (C, h, w) the map is
    ReLU(sum over c of mean(ds / dA_c) * A_c). It has the size of the feature map, is never
    negative, and keeps its scale, so maps of several images can be compared.

    Works on the target layer that the backbone's facts name; of transformers, the prefix
    tokens are left out and the patches are laid out as they lie in the image.

    Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization, ICCV 2017, equations 1 and 2.
    """

    uses_layer: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("grad-cam",)

    def attribute(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """Compute the maps.

        Args:
            model: The classifier.
            images: (B, C, H, W).
            target: (B,) the class of each image.

        Returns:
            Maps (B, h, w) of the feature map's size, none negative.

        Raises:
            UnsupportedModelError: if the target layer gives no feature map, or none that the
                logits depend on.
        """
        from pytorch_grad_cam import GradCAM

        assert isinstance(model, Classifier)
        layer = model.target_module()
        unfold = functools.partial(_channels_first, facts=model.facts, size=images.shape[-2:])
        cam = GradCAM(model, [layer], reshape_transform=unfold)
        try:
            return _raw_maps(cam, layer, images, target)
        finally:
            cam.activations_and_grads.release()  # its hooks and the layer hold each other, and so the activations


# The library's own call scales every map to 0..1 and so loses what its parts still have.
def _raw_maps(cam: Any, layer: nn.Module | None, images: Tensor, target: Tensor) -> Tensor:
    record = cam.activations_and_grads
    score = scores(record(images), target).sum()
    torch.autograd.grad(score, images, allow_unused=True)
    if len(record.activations) != 1 or len(record.gradients) != 1:
        raise UnsupportedModelError(
            "'model' must run its target layer once on the way to the logits for GradCam, "
            f"got {len(record.activations)} outputs and {len(record.gradients)} gradients; name another 'target_layer'"
        )
    activations, gradients = record.activations[0].numpy(), record.gradients[0].numpy()
    maps = cam.get_cam_image(images, layer, None, activations, gradients)
    return torch.from_numpy(np.maximum(maps, 0))


def _channels_first(output: Any, *, facts: Facts, size: torch.Size) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim != len(facts.layout):
        got = f"{output.ndim} axes" if isinstance(output, Tensor) else type(output).__name__
        raise UnsupportedModelError(
            f"'model' must have a target layer that gives {facts.layout} maps, got {got} from {facts.target_layer!r}"
        )
    if facts.layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    return _folded(output[:, facts.prefix_tokens :], size) if facts.layout == "NLC" else output


# Tokens (B, N, C) laid out as (B, C, h, w), with h : w as in the image.
def _folded(tokens: Tensor, size: torch.Size) -> Tensor:
    number = tokens.shape[1]
    height = round(math.sqrt(number * size[0] / size[1]))
    if height < 1 or number % height:
        raise UnsupportedModelError(
            f"'model' must have tokens that fill a grid of the shape of the image, got {number} tokens for "
            f"{size[0]} x {size[1]} pixels; use a size that the patches divide"
        )
    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, number // height)
