"""What an explainer is, and the registry of explainers."""

from __future__ import annotations

import abc
from importlib import metadata
from typing import Any, ClassVar, final

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from imgcls.core.dumping import dump_fields
from imgcls.core.errors import PluginContractError, UnsupportedModelError
from imgcls.core.options import rejected
from imgcls.core.plugins import Plugin, Registry, name_of
from imgcls.explain.attributions import Attributions
from imgcls.explain.isolation import isolated
from imgcls.explain.targets import Target, resolve, scores
from imgcls.models.base import Classifier

__all__ = ["Attributions", "Explainer", "explainers", "scores"]


class Explainer(Plugin):
    """A way to say which pixels an answer rests on; a subclass writes `attribute`.

    A subclass is a frozen attrs class whose fields are the options of the method. It never
    holds a model.

    Attributes:
        conserves: Whether the maps distribute the score, so that each sums to it.
        uses_layer: Whether the maps are made from the target layer of the model's facts;
            models without one are then refused.
        libraries: Distributions that do the work; their versions go into the provenance.
    """

    conserves: ClassVar[bool] = False
    uses_layer: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()

    @final
    def explain(self, model: nn.Module, images: Tensor, target: Target = None) -> Attributions:
        """Explain what a model says about images.

        Runs in float32 and eval mode whatever the caller's autocast, `no_grad` or
        `inference_mode`, on frozen models as well. The model is left exactly as it was, also
        when the explainer fails: modes, `requires_grad`, gradients, hooks, weights.

        Args:
            model: A `Classifier`, or any module from images to logits (B, K). Of the latter
                no facts are known, so explainers that use a target layer refuse it.
            images: (B, C, H, W) floats, normalised as for prediction.
            target: The class to explain: one for all images, one per image (B,), or None
                for the predicted one. With a head of one logit, class 1 is that logit and
                class 0 is minus that logit.

        Returns:
            Maps (B, H, W) at the size of the images, resized bilinearly where the method
            gives smaller ones. A map that is not finite is no error: see `valid`.

        Raises:
            ConfigError: if images or target do not fit.
            UnsupportedModelError: if the method cannot treat the model; with the reason.
            PluginContractError: if the explainer does not give one map per image.
        """
        _check_images(images)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            layer = _layer(model, type(self).__name__) if self.uses_layer else None
            alone = isolated(model)
            inputs = _leaf(images, alone)
            logits = _logits(alone, inputs)
            classes = resolve(target, logits)
            native = _checked(self.attribute(alone, inputs, classes), inputs, type(self).__name__)
        return self._attributions(native, logits, classes, size=images.shape[-2:], layer=layer)

    @abc.abstractmethod
    def attribute(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """Compute the maps.

        Args:
            model: A copy of the user's model for this call alone, in eval mode and frozen;
                anything may be done to it but writing into its parameters in place.
            images: (B, C, H, W) float32 on the device of the model, a leaf that requires
                gradients, which are enabled.
            target: (B,) the class of each image; `scores(logits, target)` is what is to be
                explained.

        Returns:
            Maps (B, h, w), signed and unscaled.
        """

    @final
    def _attributions(
        self, native: Tensor, logits: Tensor, target: Tensor, *, size: torch.Size, layer: str | None
    ) -> Attributions:
        score = scores(logits, target)
        finite = native.isfinite().all(dim=(1, 2))
        conserved = native.sum(dim=(1, 2), dtype=torch.float64) / score if self.conserves else None
        maps = _resized(torch.where(finite[:, None, None], native, 0.0), size)
        return Attributions(
            maps=maps.cpu(),
            native=native.cpu(),
            logits=logits.cpu(),
            target=target.cpu(),
            score=score.cpu(),
            conserved=None if conserved is None else conserved.to(torch.float32).cpu(),
            valid=(finite & (native != 0).any(dim=(1, 2))).cpu(),
            provenance=self._provenance(layer),
        )

    @final
    def _provenance(self, layer: str | None) -> dict[str, Any]:
        kind = type(self)
        return {
            "method": name_of(kind) or kind.__qualname__,
            "options": dump_fields(self) if attrs.has(kind) else {},
            "layer": layer,
            "versions": {name: metadata.version(name) for name in ("imgcls", "torch", *self.libraries)},
        }


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or not images.numel():
        got = f"{tuple(images.shape)} {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise rejected("images", "be a float tensor (B, C, H, W)", got, "normalise them as for prediction")


def _layer(model: nn.Module, method: str) -> str:
    kind = type(model).__name__
    if not isinstance(model, Classifier):
        raise UnsupportedModelError(
            f"'model' must be a Classifier whose facts name a target layer for {method}, got {kind}; wrap it as "
            "Classifier(model, nn.Identity(), Facts(num_features=<outputs>, target_layer=<name of a module>))"
        )
    if model.facts.target_layer is None:
        raise UnsupportedModelError(
            f"'model' must have a target layer for {method}, got a {type(model.body).__name__} whose facts name none; "
            "use an explainer without one, or another backbone"
        )
    return model.facts.target_layer


# A tensor of our own on the model's device, from which gradients can be asked.
def _leaf(images: Tensor, model: nn.Module) -> Tensor:
    device = next((parameter.device for parameter in model.parameters()), images.device)
    return images.detach().to(device, torch.float32, copy=True).requires_grad_()


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Any = model(images.detach())
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UnsupportedModelError(f"'model' must give logits (B, K) for {len(images)} images, got {got}")
    return logits


def _checked(maps: Any, images: Tensor, owner: str) -> Tensor:
    good = isinstance(maps, Tensor) and maps.ndim == 3 and len(maps) == len(images) and maps.is_floating_point()
    if not good:
        got = f"{tuple(maps.shape)} {maps.dtype}" if isinstance(maps, Tensor) else type(maps).__name__
        raise PluginContractError(f"{owner}.attribute must give float maps ({len(images)}, h, w), got {got}")
    found: Tensor = maps.detach().to(images.device, torch.float32)
    return found


def _resized(maps: Tensor, size: torch.Size) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


#: The registry of explainers.
explainers: Registry[Explainer] = Registry("imgcls.explainers", Explainer)
