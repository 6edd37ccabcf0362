"""What a backbone is, the classifier it builds, and the registry of backbones."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError, PluginContractError
from imgcls.core.plugins import Plugin, Registry
from imgcls.models.head import Head

__all__ = ["Backbone", "Classifier", "Facts", "backbones"]

_HALF = (torch.bfloat16, torch.float16)

#: Mean and standard deviation of ImageNet, which most pretrained weights expect.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@attrs.frozen(kw_only=True)
class Facts:
    """What must be known of a backbone to feed, explain and cut it.

    Attributes:
        num_features: Length of the feature vector.
        target_layer: Name, within the backbone, of the module that gives the last feature
            map, from which class activation maps are made; None where there is none.
        layout: The axes of that map: `NCHW`, `NHWC` or `NLC` (tokens).
        prefix_tokens: How many tokens before the patches belong to no place.
        mean: Mean of each channel that the weights expect, in units of 0 to 1.
        std: Standard deviation of each channel in the same units.
    """

    num_features: int
    target_layer: str | None = None
    layout: str = "NCHW"
    prefix_tokens: int = 0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def for_channels(self, channels: int) -> Facts:
        """Give one mean and one standard deviation for grey images.

        Args:
            channels: 1 or 3.

        Returns:
            The facts, with the averages of the colours where there is one channel.
        """
        if len(self.mean) == channels:
            return self
        mean, std = sum(self.mean) / len(self.mean), sum(self.std) / len(self.std)
        return attrs.evolve(self, mean=(mean,) * channels, std=(std,) * channels)


@final
class Classifier(nn.Module):
    """A backbone with its head: images (B, C, H, W) to logits (B, K).

    Attributes:
        body: From images (B, C, H, W) to features (B, F).
        head: From features (B, F) to logits (B, K).
        facts: What is known of the body.
    """

    def __init__(self, body: nn.Module, head: nn.Module, facts: Facts) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.facts = facts

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Args:
            images: Normalised images (B, C, H, W).

        Returns:
            Logits (B, K).
        """
        features = self.body(images)
        # Sixteen-bit logits have so few values that scores tie; the head costs nothing in full precision.
        with torch.autocast(images.device.type, enabled=False):
            logits: Tensor = self.head(features.float() if features.dtype in _HALF else features)
        return logits

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
            ConfigError: if the network cannot take images of that size.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs as well
            body, facts = self.make(in_channels=in_channels, image_size=image_size, initial=initial)
            layers = (head or Head()).build(facts.num_features, num_outputs)
            _check(body, facts, torch.rand(2, in_channels, *image_size), type(self).__name__)
        return Classifier(body, layers, facts.for_channels(in_channels)).train()

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
