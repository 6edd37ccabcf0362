"""Class activation maps weighted by what each channel alone lets the model see."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from imgcls.explain.base import Explainer, scores
from imgcls.explain.layers import seen
from imgcls.explain.targets import Score

__all__ = ["ScoreCam"]


@final
@attrs.frozen(kw_only=True)
class ScoreCam(Explainer):
    """Score-CAM: each channel of the feature map is laid over the image as a mask and weighted by the score of that.

    The masks are the channels at the size of the image, each from 0 to 1; the weights are the
    softmax of the scores over the channels. It takes as many forward passes as there are
    channels, and no gradient for the weights. The same as in pytorch-grad-cam, whose memory
    grows with the number of channels.

    Wang et al., Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural
    Networks, CVPR Workshops 2020.
    """

    uses_layer: ClassVar[bool] = True

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The classifier.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, h, w) of the feature map's size, none negative.
        """
        maps = seen(model, images, target, type(self).__name__).maps
        with torch.no_grad():
            found = [scores(model(images * _mask(channel, images)), target) for channel in maps.unbind(dim=1)]
        weights = torch.stack(found, dim=1).softmax(dim=1)
        return (weights[:, :, None, None] * maps).sum(dim=1).relu()


def _mask(channel: Tensor, images: Tensor) -> Tensor:
    mask = functional.interpolate(channel[:, None], size=images.shape[-2:], mode="bilinear", align_corners=True)
    low, high = mask.amin(dim=(2, 3), keepdim=True), mask.amax(dim=(2, 3), keepdim=True)
    return (mask - low) / (high - low + 1e-8)
