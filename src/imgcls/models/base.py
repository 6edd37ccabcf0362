"""What a backbone is, the classifier it builds, and the registry of backbones."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError, PluginContractError
from imgcls.core.plugins import Plugin, Registry
from imgcls.models.cuts import Trimmed, trim
from imgcls.models.facts import Facts
from imgcls.models.head import Head

__all__ = ["Backbone", "Classifier", "Facts", "backbones"]

_HALF = (torch.bfloat16, torch.float16)


@final
class Classifier(nn.Module):
    """A backbone with its head: images (B, C, H, W) to logits (B, K).

    Args:
        body: The backbone.
        head: The head.
        facts: What is known of the body.
        num_outputs: How many logits; the default of 1 suits any number while `prior_shift`
            stays 0.

    Attributes:
        body: From images (B, C, H, W) to features (B, F).
        head: From features (B, F) to logits (B, K).
        facts: What is known of the body.
        prior_shift: (K,) added to the logits in evaluation mode, 0 unless set. Training with
            other shares of the classes than those of the data (sampling, class weights)
            moves the logits by the logarithm of the ratio; taking that back belongs to
            prediction, not to the training loss (Saerens, Latinne and Decaestecker, 2002).
            It is part of the state.
    """

    prior_shift: Tensor

    def __init__(self, body: nn.Module, head: nn.Module, facts: Facts, *, num_outputs: int = 1) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.facts = facts
        self.register_buffer("prior_shift", torch.zeros(num_outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Args:
            images: Normalised images (B, C, H, W).

        Returns:
            Logits (B, K), in evaluation mode with `prior_shift`.
        """
        return self.classify(self.body(images))

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits from features that the body gave.

        Args:
            features: (B, F).

        Returns:
            Logits (B, K), in evaluation mode with `prior_shift`.
        """
        # Sixteen-bit logits have so few values that scores tie; the head costs nothing in full precision.
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features.float() if features.dtype in _HALF else features)
        return logits if self.training else logits + self.prior_shift

    def target_module(self) -> nn.Module | None:
        """Find the module that gives the last feature map.

        Returns:
            The module, or None where the backbone names none.
        """
        return None if self.facts.target_layer is None else self.body.get_submodule(self.facts.target_layer)


class Backbone(Plugin):
    """A way to make a network's body; a subclass writes `make`."""

    @final
    def build(
        self,
        num_outputs: int,
        *,
        in_channels: int = 3,
        image_size: tuple[int, int] = (224, 224),
        head: Head | None = None,
        seed: int = 0,
        initial: bool = True,
    ) -> Classifier:
        """Make a classifier and check it on a probe batch.

        Args:
            num_outputs: How many logits: the number of classes, or 1.
            in_channels: 1 or 3.
            image_size: Height and width of the images.
            head: The head; default is one linear layer.
            seed: The seed of all random weights; the global state of chance is untouched.
            initial: Whether to load initial weights, such as pretrained ones; False where
                those of a checkpoint follow.

        Returns:
            The classifier, in training mode, on the CPU.

        Raises:
            PluginContractError: if the body does not give features (B, F).
            ConfigError: if the network cannot take images of that size, or has no maps for a
                head that pools them.
        """
        head, probe = (
            head or Head(),
            torch.rand(2, in_channels, *image_size, generator=torch.Generator().manual_seed(0)),
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs as well
            body, facts = self.make(in_channels=in_channels, image_size=image_size, initial=initial)
            if head.pool is not None:
                body, facts = _pooled(body, facts, head.pool, probe)
            layers = head.build(facts.num_features, num_outputs)
            _check(body, facts, probe, type(self).__name__)
        return Classifier(body, layers, facts.for_channels(in_channels), num_outputs=num_outputs).train()

    @abc.abstractmethod
    def make(self, *, in_channels: int, image_size: tuple[int, int], initial: bool) -> tuple[nn.Module, Facts]:
        """Make the body: images (B, C, H, W) to features (B, F).

        Args:
            in_channels: 1 or 3.
            image_size: Height and width of the images.
            initial: Whether to load initial weights; if not, any values will do.

        Returns:
            The module and what must be known of it; random weights come from torch's
            global generator, which `build` has seeded.
        """


def _pooled(body: nn.Module, facts: Facts, kind: str, probe: Tensor) -> tuple[nn.Module, Facts]:
    if isinstance(body, Trimmed):
        body.pool.kind = kind
        return body, facts
    last = facts.last_map or facts.target_layer
    if last is None:
        raise ConfigError(f"'head.pool' must be left out for a network whose last maps are not known, got {kind!r}")
    return trim(body, facts, last=last, pool=kind, probe=probe, option="head.pool")


def _check(body: nn.Module, facts: Facts, probe: Tensor, owner: str) -> None:
    height, width = probe.shape[-2:]
    try:
        with torch.no_grad():
            features = body.eval()(probe)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(f"'image' must suit the backbone, got {height} x {width} pixels; {error}") from error
    if not isinstance(features, Tensor) or features.shape != (2, facts.num_features):
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise PluginContractError(f"the body of {owner} must give features (B, {facts.num_features}), got {got}")
    names = dict(body.named_modules())
    if facts.target_layer is not None and facts.target_layer not in names:
        raise PluginContractError(f"'target_layer' of {owner} must name a module, got {facts.target_layer!r}")


def _zoo(name: str) -> Mapping[str, Any]:
    library, _, model = name.partition("/")
    return {"name": library, "model": model} if library == "torchvision" else {"name": "timm", "model": name}


#: The registry of backbones; a name that no plugin has is a timm model, `torchvision/<name>` one of torchvision.
backbones: Registry[Backbone] = Registry("imgcls.backbones", Backbone, otherwise=_zoo)
