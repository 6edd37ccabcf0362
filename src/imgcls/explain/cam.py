"""Class activation maps of networks that end in a mean and a linear layer."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core.errors import UnsupportedModelError
from imgcls.explain.base import Explainer, scores
from imgcls.explain.layers import Seen, seen
from imgcls.explain.targets import Score
from imgcls.models.base import Classifier

__all__ = ["Cam"]


@final
@attrs.frozen(kw_only=True)
class Cam(Explainer):
    """CAM: the last feature map, weighted by the weights of the class.

    Exact where the logit is the mean of the feature map, times weights, plus a bias: the map is
    that mean written out, so that it sums to the score without the bias. It is signed. Other
    networks are refused; `Head(pool="avg")` or a `cut` of the backbone makes one of this kind of
    any.

    Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016.
    """

    conserves: ClassVar[bool] = True
    uses_layer: ClassVar[bool] = True

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The classifier.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, h, w) of the feature map's size.

        Raises:
            UnsupportedModelError: if the network does not end in a mean and a linear layer.
        """
        assert isinstance(model, Classifier)
        found = seen(model, images, target, type(self).__name__)
        _check_exact(model, found)
        features = found.features.requires_grad_()
        (weights,) = torch.autograd.grad(scores(model.classify(features), target).sum(), features)
        return (found.maps * weights[:, :, None, None]).sum(dim=1) / found.maps[0, 0].numel()


def _check_exact(model: Classifier, found: Seen) -> None:
    linear = [module for module in model.head.modules() if not isinstance(module, nn.Sequential | nn.Dropout)]
    if len(linear) != 1 or not isinstance(linear[0], nn.Linear):
        raise _refusal(f"a head of {len(linear)} layers" if linear else "no head of its own")
    mean = found.maps.mean(dim=(2, 3))
    if mean.shape != found.features.shape or not torch.allclose(mean, found.features, rtol=1e-3, atol=1e-4):
        raise _refusal("features that are not the mean of the last maps")


def _refusal(got: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"'model' must end in the mean of its last maps and one linear layer for Cam, got {got}; train it with "
        "Head(pool='avg') or a 'cut', or use 'grad-cam' or 'hires-cam'"
    )
