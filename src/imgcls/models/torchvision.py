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
            of tensors.
        options: Further arguments of the model.
    """

    model: str = attrs.field(validator=_known)
    pretrained: bool | None = attrs.field(default=None, validator=options.optional(options.instance(bool)))
    weights: str | None = attrs.field(default=None, converter=absolute)
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=dict)

    def __attrs_post_init__(self) -> None:
        downloads(self.pretrained, self.weights)

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
        last = _last_linear(model)
        if self.weights is not None and initial:
            load_weights(model, read_weights(Path(self.weights)), ignore=(), source=self.weights)
        num_features = model.get_submodule(last).in_features
        _swap(model, last, nn.Identity())
        if in_channels == 1:
            _grey(model)
        layer = _last_map(model, torch.rand(2, in_channels, *image_size))
        facts = Facts(num_features=int(num_features), target_layer=layer)
        half = (0.5, 0.5, 0.5)
        return model, attrs.evolve(facts, mean=half, std=half) if self.model in _INCEPTIONS else facts

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
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
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
    found: list[str] = []

    def watch(name: str) -> Any:
        def look(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-2] * output.shape[-1] > 1:
                found.append(name)

        return look

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            model.eval()(probe)
    except (RuntimeError, AssertionError):
        return None  # the probe of 'build' will say what is wrong
    finally:
        for handle in handles:
            handle.remove()
    # In a vision transformer the only map is that of the patch embedding, which knows no class.
    return found[-1] if found and found[-1] != "conv_proj" else None
