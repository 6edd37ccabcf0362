"""Attention followed through the layers of a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core import options
from imgcls.explain.attention import Attention, Reading, read
from imgcls.explain.base import Explainer, scores
from imgcls.explain.examination import finding
from imgcls.explain.layers import folded
from imgcls.explain.targets import Score

__all__ = ["GradientRollout", "Rollout"]


@final
@attrs.frozen(kw_only=True)
class Rollout(Explainer):
    """Attention rollout: how much of each patch arrives where the answer is read; of no class.

    In each layer the heads are fused to one matrix A, and (A + I) / 2 with rows that sum to 1
    says where the tokens come from; the product of all layers says it for the last one. Read
    are the rows that the answer depends on: the class token's, those of both tokens of a
    distilled network, of all patches where they are averaged, or those that a pooling attention
    weights. Prefix and register tokens are left out of the map.

    Fused attention is written out while the model runs; the model stays as it is.

    Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020.

    Attributes:
        fusion: How heads are fused: `mean`, `max` or `min`.
        discard: Share of the weakest attentions of each layer that are set to 0.
    """

    fusion: str = attrs.field(default="mean", validator=options.choice("mean", "max", "min"))
    discard: float = attrs.field(default=0.0, validator=options.number(0, 1, below=True))

    def examine(self, model: nn.Module, image: Tensor) -> Reading:
        """Find out what is read.

        Args:
            model: The isolated model.
            image: (1, C, H, W).

        Returns:
            What is read.
        """
        return read(model, image)

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The model.
            images: (B, C, H, W).
            target: What is explained, which makes no difference.

        Returns:
            Maps (B, h, w) over the patches, none negative.
        """
        layers: list[Tensor] = []

        def look(weights: Tensor) -> Tensor:
            layers.append(self._fused(weights))
            return weights

        with torch.no_grad():
            with Attention(look):
                logits = model(images)
            scores(logits, target)
            return _map(layers, finding(self, model), images.shape[-2:], normed=True)

    def _fused(self, weights: Tensor) -> Tensor:
        fused = weights.mean(dim=1) if self.fusion == "mean" else getattr(weights, f"a{self.fusion}")(dim=1)
        number = int(fused[0].numel() * self.discard)
        if not number or fused.shape[-1] != fused.shape[-2]:
            return fused
        weakest = fused.flatten(1).kthvalue(number, dim=1).values
        return torch.where(fused > weakest[:, None, None], fused, 0)


@final
@attrs.frozen(kw_only=True)
class GradientRollout(Explainer):
    """Rollout of attention times its gradient: how patches reach the answer in favour of the class.

    In each layer A is the mean over the heads of the positive part of attention times the
    gradient of the score; the layers are joined as the product of (A + I), from the first to
    the last, and the part that has passed no attention is left out.

    Chefer, Gur and Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and
    Encoder-Decoder Transformers, ICCV 2021, equations 5 and 6.
    """

    def examine(self, model: nn.Module, image: Tensor) -> Reading:
        """Find out what is read.

        Args:
            model: The isolated model.
            image: (1, C, H, W).

        Returns:
            What is read.
        """
        return read(model, image)

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The model.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, h, w) over the patches, none negative.
        """
        kept: list[Tensor] = []

        def look(weights: Tensor) -> Tensor:
            kept.append(weights if weights.requires_grad else weights.requires_grad_())
            return weights

        with Attention(look):
            score = scores(model(images.detach()), target)
        gradients = torch.autograd.grad(score.sum(), kept)
        layers = [(a.detach() * g).clamp(min=0).mean(dim=1) for a, g in zip(kept, gradients, strict=True)]
        return _map(layers, finding(self, model), images.shape[-2:], normed=False)


# A row times the layers from the last to the first, which is the row of their product.
def _map(layers: Sequence[Tensor], reading: Reading, size: torch.Size, *, normed: bool) -> Tensor:
    pooled = reading.rows is None
    square = layers[:-1] if pooled else layers
    start = layers[-1].mean(dim=1) if reading.rows is None else reading.rows.expand(len(layers[0]), -1)
    mixed = torch.zeros_like(start)  # kept apart from the start, beside which gradients may be too small to be seen
    for layer in reversed(square):
        if normed:
            scale = layer.sum(dim=2) + 1
            start, mixed = start / scale, mixed / scale
        mixed = mixed + torch.bmm((start + mixed)[:, None], layer)[:, 0]
    rows = start + mixed if normed or pooled else mixed
    return folded(rows[:, reading.prefix :, None], size)[:, 0]
