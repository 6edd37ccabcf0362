"""Any classification model of torchvision as a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core import options
from imgcls.core.errors import ConfigError, nearest
from imgcls.models.base import Backbone, Facts
from imgcls.models.cuts import trim
from imgcls.models.places import places, resolve, seen_shapes
from imgcls.models.weights import absolute, downloads, load_weights, offline_error, read_weights

__all__ = ["TorchvisionBackbone"]

#: Models that want images from -1 to 1 and have auxiliary outputs.
_INCEPTIONS = ("googlenet", "inception_v3")


def _known(_: Any, __: attrs.Attribute[Any], value: Any) -> None:
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    if value not in names:
        raise ConfigError(f"'model' must name a torchvision classifier, got {value!r}; {nearest(str(value), names)}")


@final
@attrs.frozen(kw_only=True)
class TorchvisionBackbone(Backbone):
    """A classification model of torchvision without its last linear layer.

    Attributes:
        model: Its name in torchvision.
        pretrained: Whether the default weights are downloaded; default is yes, unless
            `weights` are given.
        weights: A local file of weights for the whole model: safetensors, or a checkpoint
            of tensors; or the checkpoint folder of a run. The last linear layer in it is dropped.
        strict: Whether all of the file must fit; else what does not is left out and listed.
        cut: Where the network ends, for finer maps: a stride such as `stride16`, or the name of
            a module such as `features.6.0.block.0`. What follows is removed; the features are
            the mean of the maps.
        options: Further arguments of the model.
    """

    model: str = attrs.field(validator=_known)
    pretrained: bool | None = attrs.field(default=None, validator=options.optional(options.instance(bool)))
    weights: str | None = attrs.field(default=None, converter=absolute)
    strict: bool = attrs.field(default=True, validator=options.instance(bool))
    cut: str | None = attrs.field(default=None, validator=options.optional(options.instance(str)))
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=dict)

    def __attrs_post_init__(self) -> None:
        downloads(self.pretrained, self.weights, strict=self.strict)

    def make(self, *, in_channels: int, image_size: tuple[int, int], initial: bool) -> tuple[nn.Module, Facts]:
        """Make the body.

        Args:
            in_channels: 1 or 3; for 1 the weights of the first convolution are summed over
                the colours.
            image_size: Height and width of the images.
            initial: Whether to load pretrained or given weights.

        Returns:
            The module and its facts.
        """
        pretrained = initial and downloads(self.pretrained, self.weights)
        model = self._create(image_size, pretrained=pretrained)
        last, whole = _last_linear(model), set(model.state_dict())
        num_features = int(model.get_submodule(last).in_features)
        _swap(model, last, nn.Identity())
        if in_channels == 1:
            _grey(model)
        body, facts = self._body(model, Facts(num_features=num_features), torch.rand(2, in_channels, *image_size))
        if self.weights is not None and initial:
            given = read_weights(Path(self.weights))
            ignore = {last, *whole}
            left = load_weights(body, given, ignore=ignore, source=self.weights, strict=self.strict)
            facts = attrs.evolve(facts, unmatched=left or None)
        half = (0.5, 0.5, 0.5)
        return body, attrs.evolve(facts, mean=half, std=half) if self.model in _INCEPTIONS else facts

    def _body(self, model: nn.Module, facts: Facts, probe: Tensor) -> tuple[nn.Module, Facts]:
        tokens = 1 if self.model.startswith("vit_") else 0
        if self.cut is not None:
            facts = attrs.evolve(facts, prefix_tokens=tokens)
            last = resolve(model, self.cut, probe, prefix_tokens=tokens)
            return trim(model, facts, last=last, pool="avg", probe=probe)
        known = places(model, probe, prefix_tokens=tokens)
        return model, attrs.evolve(
            facts, target_layer=_last_map(model, probe), last_map=known[-1].name if known else None
        )

    def _create(self, image_size: tuple[int, int], *, pretrained: bool) -> Any:
        import torchvision

        arguments: dict[str, Any] = {"weights": "DEFAULT" if pretrained else None, **self.options}
        if self.model.startswith("vit_"):
            arguments.setdefault("image_size", image_size[0])
        if self.model in _INCEPTIONS:
            arguments = {"transform_input": False, **({} if pretrained else {"init_weights": True}), **arguments}
        try:
            model = torchvision.models.get_model(self.model, **arguments)
            return _without_auxiliaries(model) if self.model in _INCEPTIONS else model
        except (TypeError, ValueError) as error:
            raise ConfigError(f"'options' must suit {self.model!r}, got {dict(self.options)!r}; {error}") from error
        except OSError as error:
            raise offline_error(f"torchvision/{self.model}", error) from error


# Only training from scratch in the original way wants them.
def _without_auxiliaries(model: Any) -> Any:
    model.aux_logits = False
    for name, _ in list(model.named_children()):
        if name.lower().startswith("aux"):
            setattr(model, name, None)
    return model


def _last_linear(model: nn.Module) -> str:
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise ConfigError("'backbone' must end in a linear layer, got a model without one (such as squeezenet)")
    return names[-1]


def _swap(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _grey(model: nn.Module) -> None:
    name, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        1,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]  # the stub wants pairs where the module has tuples
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    with torch.no_grad():
        new.weight.copy_(old.weight.sum(dim=1, keepdim=True))
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)
    _swap(model, name, new)


# The last module whose output is a map with more than one place, in order of execution.
def _last_map(model: nn.Module, probe: Tensor) -> str | None:
    shapes = seen_shapes(model, probe)
    found = [name for name, shape in shapes if len(shape) == 4 and shape[-2] * shape[-1] > 1]
    # In a vision transformer the only map is that of the patch embedding, which knows no class.
    return found[-1] if found and found[-1] != "conv_proj" else None
