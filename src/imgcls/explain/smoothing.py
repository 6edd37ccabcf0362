"""The mean of a method's maps over copies of an image."""

from __future__ import annotations

from typing import Any, final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core import options
from imgcls.explain.base import Explainer, explainers, scores
from imgcls.explain.baselines import InputTimesGradient, noise_of
from imgcls.explain.targets import Score

__all__ = ["Smooth"]


def _explainer(value: Any) -> Any:
    return explainers.create(value, path="explainer")


@final
@attrs.frozen(kw_only=True)
class Smooth(Explainer):
    """The mean map over copies with noise, or mirrored ones, of any method.

    With noise around `input-times-gradient` this is SmoothGrad (Smilkov et al., 2017), times the
    image. Maps of mirrored copies are mirrored back. The class is the one of the image itself.

    Attributes:
        explainer: The method: a name, `{"name": ..., **options}` or an instance.
        samples: How many copies with noise; 0 for none.
        noise: The deviation of the noise, in parts of the range of each image's values.
        flips: Whether each copy is mirrored left to right as well.
        seed: The seed; an image gets the same noise in any batch.
    """

    explainer: Explainer = attrs.field(factory=InputTimesGradient, converter=_explainer)
    samples: int = attrs.field(default=8, validator=options.count(0))
    noise: float = attrs.field(default=0.1, validator=options.number(0, above=True))
    flips: bool = attrs.field(default=False, validator=options.instance(bool))
    seed: int = attrs.field(default=0, validator=options.seed())

    def __attrs_post_init__(self) -> None:
        if not self.samples and not self.flips:
            raise options.rejected("samples", "be at least 1 without 'flips'", self.samples)

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The model.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, h, w) of the size that the method gives.
        """
        with torch.no_grad():
            scores(model(images), target)
        maps = [self._map(model, copy, target) for copy in self._copies(images.detach())]
        return torch.stack(maps).mean(dim=0)

    def _copies(self, images: Tensor) -> list[Tensor]:
        if not self.samples:
            return [images]
        spread = self.noise * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)))
        return [
            images + spread[:, None, None, None] * torch.stack([self._noise(image, sample) for image in images])
            for sample in range(self.samples)
        ]

    def _noise(self, image: Tensor, sample: int) -> Tensor:
        return torch.randn(image.shape, generator=noise_of(image, self.seed, "smooth", sample)).to(image)

    def _map(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        found = self.explainer.attribute(model, images.clone().requires_grad_(), target).detach()
        if not self.flips:
            return found
        mirrored = self.explainer.attribute(model, images.flip(-1).requires_grad_(), target).detach()
        return (found + mirrored.flip(-1)) / 2
