"""Layer-wise relevance propagation through any model that runs on torch's functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core import options
from imgcls.core.dumping import dump_fields
from imgcls.explain.base import Explainer, scores
from imgcls.explain.bounds import bounds
from imgcls.explain.completeness import Completeness, completeness, refuse
from imgcls.explain.composites import COMPOSITES, GAMMA, PLUS, Composite, to_composite
from imgcls.explain.examination import finding
from imgcls.explain.propagation import Propagation
from imgcls.explain.rewrites import NORMS
from imgcls.explain.rules import ZPlus
from imgcls.explain.targets import Score

__all__ = ["Lrp"]


@final
@attrs.frozen(kw_only=True)
class Lrp(Explainer):
    """LRP: the score is handed down layer by layer to the pixels.

    The rules are those of zennit; how they are applied is not. A library that works on modules
    misses what happens between them (residual additions, gates, attention) and multiplies
    relevance without a word. Here each function of torch is seen while the model runs, so the
    same code explains convolutional networks and transformers, of timm, torchvision or your own.

    Before the first map of a model it is checked that LRP-0 loses nothing on it: pixels and
    biases together must get the score within 1e-6 in double precision. Else the model is refused
    and the functions that lose relevance are named.

    `Attributions.conserved` has for each image how much of the score the pixels got. The rest
    is what biases gave (which `zero_bias` hands on) and what rules absorbed. A sum of 1 is no
    proof of a good map.

    Bach et al., On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise
    Relevance Propagation, PLoS ONE 10(7), 2015; Montavon et al., Layer-Wise Relevance
    Propagation: An Overview, 2019; Ali et al., XAI for Transformers: Better Explanations
    through Conservative Propagation, ICML 2022; Achtibat et al., AttnLRP, ICML 2024.

    Attributes:
        composite: Which rule each layer gets: `epsilon`, `epsilon-plus`, `epsilon-plus-flat`,
            `epsilon-gamma-box`, `epsilon-alpha2-beta1`, `epsilon-alpha2-beta1-flat`, `gamma`, or
            a `Composite`. None is `epsilon-plus` for networks with batch norm or none, and
            `gamma` (0.25 for convolutions, 0.05 for linear layers) for those with layer norm,
            group norm and the like.
        zero_bias: Whether the inputs get what a bias gave. None does so where convolutions have
            the rule z+ in networks with batch norm or none; elsewhere relevance would explode.
        attention: `values` lets attention decide only how values are mixed; `attn-lrp` lets
            queries and keys have a share.
    """

    conserves: ClassVar[bool] = True

    composite: str | Composite | None = attrs.field(default=None, converter=to_composite)
    zero_bias: bool | None = attrs.field(default=None, validator=options.optional(options.instance(bool)))
    attention: str = attrs.field(default="values", validator=options.choice("values", "attn-lrp"))

    def __attrs_post_init__(self) -> None:
        chosen = COMPOSITES[self.composite] if isinstance(self.composite, str) else self.composite
        if self.zero_bias and chosen is not None and chosen.favours():
            remedy = "it would put relevance anywhere and still conserve it"
            raise options.rejected("zero_bias", "be left out with a gamma rule", self.zero_bias, remedy)

    def examine(self, model: nn.Module, image: Tensor) -> Completeness:
        """Check that LRP-0 loses nothing on a model.

        Args:
            model: The isolated model.
            image: (1, C, H, W).

        Returns:
            What was measured.

        Raises:
            UnsupportedModelError: if relevance is lost or made; with the functions that do it.
        """
        measured = completeness(model, image)
        if not measured.holds():
            raise refuse(model, image, measured)
        return measured

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The model.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, H, W), summed over the channels.
        """
        composite, zero_bias = self._rules(finding(self, model))
        pixels = None if composite.first is None else (images, *bounds(model, images.detach()))
        with Propagation(composite, zero_bias=zero_bias, split=self.attention == "attn-lrp", pixels=pixels):
            score = scores(model(images), target)
        (found,) = torch.autograd.grad(score.sum(), images)
        return (found if pixels is not None else found * images.detach()).sum(dim=1)

    def notes(self, model: nn.Module) -> Mapping[str, Any]:
        """Say which rules were used.

        Args:
            model: The model.

        Returns:
            The rules, and what LRP-0 kept of a score.
        """
        measured: Completeness = finding(self, model)
        composite, zero_bias = self._rules(measured)
        return {"rules": {**dump_fields(composite), "zero_bias": zero_bias}, "completeness": measured.ratio}

    def _rules(self, measured: Completeness) -> tuple[Composite, bool]:
        normed = bool(measured.names & NORMS)
        composite: Any = COMPOSITES[self.composite] if isinstance(self.composite, str) else self.composite
        composite = composite or (GAMMA if normed else PLUS)
        by_default = isinstance(composite.conv, ZPlus) and not normed
        return composite, by_default if self.zero_bias is None else self.zero_bias
