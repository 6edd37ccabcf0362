"""What an explainer is, and the registry of explainers."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
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
from imgcls.explain.ensembles import Ensemble
from imgcls.explain.examination import examine
from imgcls.explain.isolation import isolated, unwrapped
from imgcls.explain.layers import placed
from imgcls.explain.targets import Contrast, Score, Target, scores

__all__ = ["Attributions", "Contrast", "Ensemble", "Explainer", "Score", "explainers", "scores"]


class Explainer(Plugin):
    """A way to say which pixels an answer rests on; a subclass writes `attribute`.

    A subclass is a frozen attrs class whose fields are the options of the method. It never
    holds a model. One that has other explainers in its fields uses what they use.

    Attributes:
        conserves: Whether the maps distribute the score, so that each sums to it.
        uses_layer: Whether the maps are made from a layer of the model that gives maps. The
            model is then a `Classifier` whose facts name that layer.
        libraries: Distributions that do the work; their versions go into the provenance.
    """

    conserves: ClassVar[bool] = False
    uses_layer: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()

    @final
    def explain(
        self, model: nn.Module, images: Tensor, target: Target = None, *, classes: Sequence[str] | None = None
    ) -> Attributions:
        """Explain what a model says about images.

        Runs in float32 and eval mode whatever the caller's autocast, `no_grad` or
        `inference_mode`, on frozen models as well. The model is left exactly as it was, also
        when the explainer fails: modes, `requires_grad`, gradients, hooks, weights.

        Args:
            model: A `Classifier`, any module from images to logits (B, K), or an `Ensemble`,
                whose map is the mean of those of its members. What compiles, distributes or
                averages a model is taken off.
            images: (B, C, H, W) floats, normalised as for prediction.
            target: What to explain: a class for all images, one per image (B,), or None for
                the predicted one; a `Contrast`; weights of the logits (B, K); or a function
                from logits (B, K) to scores (B,). With a head of one logit, class 1 is that
                logit and class 0 is minus that logit.
            classes: The names of the classes, where `target` has names.

        Returns:
            Maps (B, H, W) at the size of the images, resized bilinearly where the method
            gives smaller ones. A map that is not finite is no error: see `valid`.

        Raises:
            ConfigError: if images or target do not fit.
            UnsupportedModelError: if the method cannot treat the model; with the reason.
            PluginContractError: if the explainer does not give one map per image.
        """
        _check_images(images)
        model = unwrapped(model)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(_device(model, images).partition(":")[0], enabled=False),
        ):
            inputs = _leaf(images, model)
            score = Score(target, classes)
            if isinstance(model, Ensemble):
                scores(model.logits(inputs), score)
                found = [self._explained(member, inputs, score) for member in model.members]
                native, notes = torch.stack([maps for maps, _ in found]).mean(dim=0), found[0][1]
            else:
                native, notes = self._explained(model, inputs, score)
        return self._attributions(native, score, size=images.shape[-2:], notes=notes)

    @abc.abstractmethod
    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        """Compute the maps.

        Args:
            model: A copy of the user's model for this call alone, in eval mode and frozen;
                anything may be done to it but writing into its parameters in place.
            images: (B, C, H, W) float32 on the device of the model, a leaf that requires
                gradients, which are enabled.
            target: What is to be explained: `scores(logits, target)` are the numbers (B,).
                The first logits that it is called with must be those of `images`, since
                they decide the class where the user named none.

        Returns:
            Maps (B, h, w), signed and unscaled.
        """

    def examine(self, model: nn.Module, image: Tensor) -> Any:  # noqa: ARG002 (for those that need it)
        """Find out what the method must know of a model, once for each model.

        Args:
            model: A copy of the user's model, as for `attribute`.
            image: (1, C, H, W) float32, one of those to be explained.

        Returns:
            Anything; `examination.finding(self, model)` gives it to `attribute`.
        """
        return None

    def notes(self, model: nn.Module) -> Mapping[str, Any]:  # noqa: ARG002 (for those that have any)
        """Say what the provenance should tell beside the options.

        Args:
            model: The model that `attribute` was given.

        Returns:
            Plain values by name.
        """
        return {}

    # The methods that work here: this one and those in its fields.
    @final
    def _methods(self) -> list[Explainer]:
        kind: Any = type(self)
        fields = [getattr(self, field.name) for field in attrs.fields(kind)] if attrs.has(kind) else []
        return [self, *(method for value in fields if isinstance(value, Explainer) for method in value._methods())]

    @final
    def _explained(self, model: nn.Module, inputs: Tensor, score: Score) -> tuple[Tensor, Mapping[str, Any]]:
        alone, methods, layer = isolated(model), self._methods(), None
        if any(method.uses_layer for method in methods):
            alone = placed(alone, inputs, type(self).__name__)
            layer = alone.facts.target_layer
        for method in methods:
            examine(method, model, alone, inputs)
        native = _checked(self.attribute(alone, inputs, score), inputs, type(self).__name__)
        if score.logits is None:
            with torch.no_grad():
                scores(alone(inputs), score)
        notes = {key: value for method in methods for key, value in method.notes(alone).items()}
        return native, {"layer": layer, **notes}

    @final
    def _attributions(
        self, native: Tensor, score: Score, *, size: torch.Size, notes: Mapping[str, Any]
    ) -> Attributions:
        assert score.logits is not None
        assert score.target is not None
        if len(score.logits) != len(native):
            raise UnsupportedModelError(
                f"'model' must give logits (B, K) for {len(native)} images, got {tuple(score.logits.shape)}"
            )
        explained = score(score.logits).detach()
        finite = native.isfinite().all(dim=(1, 2))
        conserved = native.sum(dim=(1, 2), dtype=torch.float64) / explained if self.conserves else None
        maps = _resized(torch.where(finite[:, None, None], native, 0.0), size)
        return Attributions(
            maps=maps.cpu(),
            native=native.cpu(),
            logits=score.logits.cpu(),
            target=score.target.cpu(),
            score=explained.cpu(),
            conserved=None if conserved is None else conserved.to(torch.float32).cpu(),
            valid=(finite & (native != 0).any(dim=(1, 2))).cpu(),
            provenance=self._provenance({"target": score.kind(), **notes}),
        )

    @final
    def _provenance(self, notes: Mapping[str, Any]) -> dict[str, Any]:
        kind = type(self)
        libraries = {name for method in self._methods() for name in method.libraries}
        return {
            "method": name_of(kind) or kind.__qualname__,
            "options": dump_fields(self) if attrs.has(kind) else {},
            **notes,
            "versions": {name: metadata.version(name) for name in ("imgcls", "torch", *sorted(libraries))},
        }


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or not images.numel():
        got = f"{tuple(images.shape)} {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise rejected("images", "be a float tensor (B, C, H, W)", got, "normalise them as for prediction")


# A tensor of our own on the model's device, from which gradients can be asked.
def _leaf(images: Tensor, model: nn.Module) -> Tensor:
    return images.detach().to(_device(model, images), torch.float32, copy=True).requires_grad_()


def _device(model: nn.Module, images: Tensor) -> str:
    return str(next((parameter.device for parameter in model.parameters()), images.device))


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
