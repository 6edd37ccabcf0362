"""Class activation maps weighted by gradients, by the formulas of pytorch-grad-cam."""

from __future__ import annotations

from typing import Any, ClassVar, final

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from imgcls.explain.base import Explainer
from imgcls.explain.layers import Seen, seen
from imgcls.explain.targets import Score

__all__ = ["EigenCam", "GradCam", "GradCamPlusPlus", "HiresCam", "LayerCam"]


@final
@attrs.frozen(kw_only=True)
class GradCam(Explainer):
    """Grad-CAM: the channels of the last feature map, weighted by their mean gradient.

    For image i with score s and feature map A (C, h, w) the map is
    ReLU(sum over c of mean(ds / dA_c) * A_c). It has the size of the feature map, is never
    negative, and keeps its scale, so maps of several images can be compared.

    Works on the target layer that the backbone's facts name; of transformers, the prefix
    tokens are left out and the patches are laid out as they lie in the image. The gradient is
    taken from that layer on only.

    Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization, ICCV 2017, equations 1 and 2.
    """

    uses_layer: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("grad-cam",)

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The classifier.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, h, w) of the feature map's size, none negative.
        """
        from pytorch_grad_cam import GradCAM

        return _by_library(GradCAM, seen(model, images, target, type(self).__name__))


@final
@attrs.frozen(kw_only=True)
class HiresCam(Explainer):
    """HiResCAM: the feature map times its gradient, summed over the channels.

    Where only pooling and a linear layer follow the feature map, the map sums to the score
    without the bias: it is where the score comes from. It is signed.

    Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of
    convolutional neural networks, 2020.
    """

    conserves: ClassVar[bool] = True
    uses_layer: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("grad-cam",)

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The classifier.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, h, w) of the feature map's size.
        """
        from pytorch_grad_cam import HiResCAM

        return _by_library(HiResCAM, seen(model, images, target, type(self).__name__), signed=True)


@final
@attrs.frozen(kw_only=True)
class LayerCam(Explainer):
    """Layer-CAM: the feature map times its positive gradient, summed over the channels, negative sums cut.

    Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization,
    IEEE Transactions on Image Processing 30, 2021.
    """

    uses_layer: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("grad-cam",)

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The classifier.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, h, w) of the feature map's size, none negative.
        """
        from pytorch_grad_cam import LayerCAM

        return _by_library(LayerCAM, seen(model, images, target, type(self).__name__))


@final
@attrs.frozen(kw_only=True)
class GradCamPlusPlus(Explainer):
    """Grad-CAM++: channels weighted by their positive gradients, each place by how much it adds.

    Chattopadhay et al., Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep
    Convolutional Networks, WACV 2018, equation 19.
    """

    uses_layer: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("grad-cam",)

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The classifier.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, h, w) of the feature map's size, none negative.
        """
        from pytorch_grad_cam import GradCAMPlusPlus

        return _by_library(GradCAMPlusPlus, seen(model, images, target, type(self).__name__))


@final
@attrs.frozen(kw_only=True)
class EigenCam(Explainer):
    """Eigen-CAM: the first principal component of the feature map; of no class.

    A component has no sign of its own; here it is the one that goes with the mean of the
    channels, and what is negative is cut.

    Muhammad and Yeasin, Eigen-CAM: Class Activation Map using Principal Components, IJCNN 2020.
    """

    uses_layer: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("grad-cam",)

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The classifier.
            images: (B, C, H, W).
            target: What is explained, which makes no difference.

        Returns:
            Maps (B, h, w) of the feature map's size, none negative.
        """
        from pytorch_grad_cam import EigenCAM

        found = seen(model, images, target, type(self).__name__)
        maps = _by_library(EigenCAM, found, signed=True).to(found.maps.device)
        strength = found.maps.mean(dim=1)
        strength = strength - strength.mean(dim=(1, 2), keepdim=True)
        sign = torch.where((maps * strength).sum(dim=(1, 2), keepdim=True) < 0, -1.0, 1.0)
        return (maps * sign).clamp(min=0)


# The library's own call runs the whole backward pass, fills gradients and scales each map to 0..1; its formulas do not.
def _by_library(kind: Any, found: Seen, *, signed: bool = False) -> Tensor:
    cam = kind(nn.PReLU(), [])  # it wants a model with a parameter
    maps, gradients = (np.ascontiguousarray(part.cpu().numpy()) for part in (found.maps, found.gradients))
    native = cam.get_cam_image(None, None, None, maps, gradients, False)
    return torch.from_numpy(native if signed else np.maximum(native, 0))
