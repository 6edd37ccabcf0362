"""Simple methods that others must beat."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core import options
from imgcls.core.randomness import derive_seed
from imgcls.explain.base import Explainer, scores
from imgcls.explain.targets import Score

__all__ = ["InputTimesGradient", "IntegratedGradients", "Occlusion", "Random", "noise_of"]


@final
@attrs.frozen(kw_only=True)
class InputTimesGradient(Explainer):
    """Pixels times their gradients, summed over the channels.

    Shrikumar et al., Not Just a Black Box, 2016.
    """

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The model.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, H, W).
        """
        (gradients,) = torch.autograd.grad(scores(model(images), target).sum(), images)
        return (images.detach() * gradients).sum(dim=1)


@final
@attrs.frozen(kw_only=True)
class IntegratedGradients(Explainer):
    """The gradient on the way from an image of one grey to the image, times that way.

    The map sums to the score of the image minus that of the grey, up to the error of the steps.

    Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017.

    Attributes:
        steps: Points on the way, each a forward and a backward pass.
        baseline: The value of the grey in the units of the network; 0 is the mean of its training data.
    """

    steps: int = attrs.field(default=32, validator=options.count(1))
    baseline: float = attrs.field(default=0.0, validator=options.number())

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The model.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, H, W).
        """
        with torch.no_grad():
            scores(model(images), target)
        way = images.detach() - self.baseline
        total = torch.zeros_like(way)
        for step in range(self.steps):
            point = (self.baseline + way * ((step + 0.5) / self.steps)).requires_grad_()
            (gradients,) = torch.autograd.grad(scores(model(point), target).sum(), point)
            total += gradients
        return (way * total / self.steps).sum(dim=1)


@final
@attrs.frozen(kw_only=True)
class Occlusion(Explainer):
    """How much the score falls where a square is laid over the image, the mean of all squares over a pixel.

    Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.

    Attributes:
        window: Side of the square, in parts of the shorter side of the image.
        stride: Step of the square, in parts of its side.
        value: The grey of the square in the units of the network; 0 is the mean of its training data.
    """

    window: float = attrs.field(default=0.2, validator=options.number(0, 1, above=True))
    stride: float = attrs.field(default=0.5, validator=options.number(0, 1, above=True))
    value: float = attrs.field(default=0.0, validator=options.number())

    @torch.no_grad()
    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The model.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, H, W).
        """
        whole = scores(model(images), target)
        total = images.new_zeros(images.shape[0], *images.shape[2:])
        count = images.new_zeros(images.shape[2:])
        for rows, columns in self._squares(images.shape[-2], images.shape[-1]):
            hidden = images.detach().clone()
            hidden[:, :, rows, columns] = self.value
            total[:, rows, columns] += (whole - scores(model(hidden), target))[:, None, None]
            count[rows, columns] += 1
        return total / count

    def _squares(self, height: int, width: int) -> Iterator[tuple[slice, slice]]:
        side = max(round(self.window * min(height, width)), 1)
        step = max(round(self.stride * side), 1)
        tops, lefts = ([*range(0, length - side, step), length - side] for length in (height, width))
        for top in tops:
            for left in lefts:
                yield slice(top, top + side), slice(left, left + side)


@final
@attrs.frozen(kw_only=True)
class Random(Explainer):
    """Noise, to see what a score is worth: each pixel evenly from 0 to 1.

    Attributes:
        seed: The seed; an image gets the same map in any batch.
    """

    seed: int = attrs.field(default=0, validator=options.seed())

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:  # noqa: ARG002 (chance asks nobody)
        """Compute the maps.

        Args:
            model: The model, which makes no difference.
            images: (B, C, H, W).
            target: What is explained, which makes no difference.

        Returns:
            Maps (B, H, W).
        """
        drawn = [torch.rand(image.shape[1:], generator=noise_of(image, self.seed, "random")) for image in images]
        return torch.stack(drawn)


def noise_of(image: Tensor, seed: int, *keys: str | int) -> torch.Generator:
    """Make the generator of an image, the same whatever batch it is in.

    Args:
        image: (C, H, W).
        seed: The seed.
        *keys: What the chance is for.

    Returns:
        A generator on the CPU.
    """
    content = hashlib.sha256(image.detach().cpu().numpy().tobytes()).hexdigest()
    return torch.Generator().manual_seed(derive_seed(seed, content, *keys))
