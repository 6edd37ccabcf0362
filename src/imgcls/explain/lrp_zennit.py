"""Layer-wise relevance propagation, through zennit."""

from __future__ import annotations

from typing import Any, ClassVar, final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core import options
from imgcls.core.errors import UnsupportedModelError
from imgcls.explain.base import Explainer, scores
from imgcls.explain.bounds import bounds
from imgcls.explain.operations import unruled
from imgcls.explain.targets import Score

__all__ = ["LrpZennit"]

#: Zennit's classes by our names.
COMPOSITES = {
    "epsilon-plus": "EpsilonPlus",
    "epsilon-plus-flat": "EpsilonPlusFlat",
    "epsilon-alpha2-beta1": "EpsilonAlpha2Beta1",
    "epsilon-alpha2-beta1-flat": "EpsilonAlpha2Beta1Flat",
    "epsilon-gamma-box": "EpsilonGammaBox",
}

#: Between these the sum of a map may lie, in parts of the score.
LOW, HIGH = 0.8, 1.25

#: How far the merging of batch norms may move the logits, relative to the largest.
_TOLERANCE = 1e-3

_UNKNOWN = "no operation between modules explains it; convolutions without a positive part (depthwise ones) lose some"
_REMEDY = "use 'lrp', or a network that it suits: a ResNet or VGG of torchvision, or 'small-cnn'"


@final
@attrs.frozen(kw_only=True)
class LrpZennit(Explainer):
    """LRP with zennit's rules: the score is handed down layer by layer to the pixels.

    Zennit propagates through modules. What happens between them (a residual addition, a
    gate) and what it has no rule for (layer norm, attention) makes relevance appear or
    vanish without a word: on the resnet18 of timm it multiplies it by 256. So each map is
    summed, and a model is refused where the median of sum over score of the images leaves
    0.8 to 1.25. `Attributions.conserved` has the number of every image.

    The part of the score that a bias gave is handed on too: where the bias of the head alone decides the
    sign of a score, the map is that of `lrp` turned over.

    Batch norms are merged into the convolutions before them, residual additions of
    torchvision's ResNets get a rule.

    Bach et al., On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise
    Relevance Propagation, PLoS ONE 10(7), 2015; the composite is from Kohlbrenner et al.,
    Towards Best Practice in Explaining Neural Network Decisions with LRP, IJCNN 2020, and
    Lapuschkin et al., Unmasking Clever Hans predictors, Nature Communications 10, 2019.

    Attributes:
        composite: Which rule each layer gets: `epsilon-plus`, `epsilon-plus-flat`, `epsilon-alpha2-beta1`,
            `epsilon-alpha2-beta1-flat` or `epsilon-gamma-box`, as zennit makes them. Epsilon is for linear layers, the
            second rule for convolutions, the last one for the first layer. Biases take relevance under the gamma rule
            alone, whose maps are wrong without them.
    """

    conserves: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("zennit",)

    composite: str = attrs.field(default="epsilon-plus-flat", validator=options.choice(*COMPOSITES))

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: The model.
            images: (B, C, H, W).
            target: What is explained.

        Returns:
            Maps (B, H, W), summed over the channels.

        Raises:
            UnsupportedModelError: if zennit cannot treat the model, or relevance is not
                conserved; with what is known of the cause.
        """
        with torch.no_grad():
            logits = model(images)
            score = scores(logits, target)
        _merge_batch_norms(model)
        with self._made(model, images).context(model):
            maps = _relevance(model, images, target, logits)
            ratio = _ratio(maps, score)
            if not LOW <= ratio <= HIGH:
                raise _refusal(f"a ratio of {ratio:.4g}", ", ".join(unruled(model, images)) or _UNKNOWN)
        return maps

    def _made(self, model: nn.Module, images: Tensor) -> Any:
        from zennit import composites
        from zennit.rules import zero_bias
        from zennit.torchvision import ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer

        make = getattr(composites, COMPOSITES[self.composite])
        low, high = bounds(model, images.detach())
        own = {"low": low, "high": high} if self.composite == "epsilon-gamma-box" else {"zero_params": zero_bias()}
        return make(canonizers=[ResNetBasicBlockCanonizer(), ResNetBottleneckCanonizer()], **own)


# On the copy that the explainer was given, so that nothing has to be undone.
def _merge_batch_norms(model: nn.Module) -> None:
    from zennit.canonizers import SequentialMergeBatchNorm

    try:
        merged = SequentialMergeBatchNorm().apply(model)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise _refusal("batch norms that cannot be merged", str(error)) from error
    for one in merged:
        # Zennit up to 0.5.1 leaves it, which changes the output: by 12 % on EfficientNets, where it is large.
        one.batch_norm.eps = 0.0


def _relevance(model: nn.Module, images: Tensor, target: Score, expected: Tensor) -> Tensor:
    try:
        logits: Tensor = model(images)
        _check_same(logits, expected)
        leaf = logits.detach().requires_grad_()
        (weights,) = torch.autograd.grad(scores(leaf, target).sum(), leaf)
        (relevance,) = torch.autograd.grad(logits, images, weights * leaf.detach())
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, AttributeError) as error:
        raise _refusal(f"{type(error).__name__} from zennit", str(error)) from error
    return relevance.sum(dim=1)


# Merging goes by the order in which modules were assigned, which need not be the order in which they run.
def _check_same(logits: Tensor, expected: Tensor) -> None:
    error = float((logits.detach() - expected).abs().max() / expected.abs().max())
    if error > _TOLERANCE:
        raise _refusal(f"logits changed by {error:.2g}", "batch norms follow layers that run elsewhere")


# The median, since of one image the score may happen to be nearly zero.
def _ratio(maps: Tensor, score: Tensor) -> float:
    ratio = maps.detach().sum(dim=(1, 2), dtype=torch.float64) / score
    return float(ratio.nan_to_num(nan=torch.inf).median())


def _refusal(got: str, cause: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"'model' must conserve relevance within {LOW} to {HIGH} under zennit's rules, got {got}: {cause}; {_REMEDY}"
    )
