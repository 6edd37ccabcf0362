"""A module of the user's as a backbone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core import options
from imgcls.core.errors import ConfigError
from imgcls.models.base import Backbone
from imgcls.models.cuts import inside_model, trim
from imgcls.models.facts import IMAGENET_MEAN, IMAGENET_STD, Facts
from imgcls.models.places import resolve

__all__ = ["ModuleBackbone"]


def _makes(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, nn.Module) and not callable(value):
        raise options.rejected(field.name, "be a torch module or a function that makes one", value)


@final
@attrs.frozen(kw_only=True, eq=False)
class ModuleBackbone(Backbone):
    """A module of the user's, from images (B, C, H, W) to features (B, F) or maps (B, F, h, w).

    Maps are averaged over their places. Every fold gets a copy of its own: of a module, it
    starts with the weights that the module has; a function is called for every fold, under the
    seed of the fold, so that random weights follow it. Such a backbone cannot be written to a
    file: a configuration notes it as opaque, and a run is opened with `load_run(...,
    backbone=...)`. Register a plugin where that is too little.

    Attributes:
        module: The module, or a function without arguments that makes it.
        target_layer: The name of the module within it that gives the last map; default is
            found where the features are maps.
        cut: A stride such as `stride16` or the name of a module, behind which the network ends.
        mean: Mean of each channel that it expects, in units of 0 to 1.
        std: Standard deviation of each channel in the same units.
        blocks: Names of its blocks from the stem on; default is its children.
    """

    module: nn.Module | Callable[[], nn.Module] = attrs.field(validator=_makes, repr=False)
    target_layer: str | None = attrs.field(default=None, validator=options.optional(options.instance(str)))
    cut: str | None = attrs.field(default=None, validator=options.optional(options.instance(str)))
    mean: tuple[float, ...] = attrs.field(default=IMAGENET_MEAN, converter=options.texts)
    std: tuple[float, ...] = attrs.field(default=IMAGENET_STD, converter=options.texts)
    blocks: tuple[str, ...] = attrs.field(default=(), converter=options.texts)

    def make(self, *, in_channels: int, image_size: tuple[int, int], initial: bool) -> tuple[nn.Module, Facts]:  # noqa: ARG002
        """Copy or make the module.

        Args:
            in_channels: What the module must take.
            image_size: Height and width of the images.
            initial: Makes no difference here.

        Returns:
            The module, with a pool behind it where it gives maps, and its facts.

        Raises:
            ConfigError: if it cannot be copied, or gives neither features nor maps.
        """
        probe = torch.rand(1, in_channels, *image_size)
        model = self._own()
        groups = tuple((name,) for name in self.blocks)
        facts = Facts(num_features=0, target_layer=self.target_layer, mean=self.mean, std=self.std, blocks=groups)
        if self.cut is not None:
            return trim(model, facts, last=resolve(model, self.cut, probe), pool="avg", probe=probe)
        shape = _shape(model, probe)
        if len(shape) == 2:
            return model, attrs.evolve(facts, num_features=shape[1])
        layer = "model" if self.target_layer is None else f"model.{self.target_layer}"
        return _Averaged(model), attrs.evolve(
            facts, num_features=shape[1], target_layer=layer, last_map="model", blocks=inside_model(groups)
        )

    def _own(self) -> nn.Module:
        if not isinstance(self.module, nn.Module):
            return self.module()
        try:
            return copy.deepcopy(self.module)
        except (RuntimeError, TypeError) as error:
            raise ConfigError(f"'module' must be copyable, got {type(self.module).__name__}; {error}") from error


class _Averaged(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model(images).mean(dim=(2, 3))
        return features


def _shape(model: nn.Module, probe: Tensor) -> tuple[int, ...]:
    try:
        with torch.no_grad():
            output = model.eval()(probe)
    except (RuntimeError, AssertionError, ValueError) as error:
        got = tuple(probe.shape)
        raise ConfigError(f"'module' must take images (B, C, H, W), got an error for {got}; {error}") from error
    shape = tuple(output.shape) if isinstance(output, Tensor) else ()
    if len(shape) not in (2, 4) or shape[0] != len(probe):
        given = str(shape) if shape else type(output).__name__
        raise ConfigError(f"'module' must give features (B, F) or maps (B, F, h, w), got {given}; cut it with 'cut'")
    return shape
