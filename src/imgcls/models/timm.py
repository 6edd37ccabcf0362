"""Any model of timm as a backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core import options
from imgcls.core.errors import ConfigError, nearest
from imgcls.models.base import Backbone, Facts, backbones
from imgcls.models.weights import absolute, downloads, load_weights, offline_error, read_weights

__all__ = ["TimmBackbone"]


def _known(_: Any, __: attrs.Attribute[Any], value: Any) -> None:
    import timm

    if not isinstance(value, str) or not timm.is_model(value):
        remedy = nearest(str(value), [*timm.list_models(), *backbones.names()])
        raise ConfigError(f"'model' must name a timm model, got {value!r}; {remedy}")


@final
@attrs.frozen(kw_only=True)
class TimmBackbone(Backbone):
    """A model of timm without its classifier.

    Attributes:
        model: Its name in timm.
        pretrained: Whether weights are downloaded through timm; default is yes, unless
            `weights` are given.
        weights: A local file of weights for the whole timm model: safetensors, or a
            checkpoint of tensors. The classifier in it is dropped; for one channel, the
            first convolution is summed over the colours.
        options: Further arguments of `timm.create_model`.
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
            in_channels: 1 or 3.
            image_size: Height and width; passed on to models that are built for one size.
            initial: Whether to load pretrained or given weights.

        Returns:
            The module and its facts.
        """
        pretrained = initial and downloads(self.pretrained, self.weights)
        model = self._create(in_channels, image_size, pretrained=pretrained)
        if self.weights is not None and initial:
            self._load(model, in_channels)
        body = _Body(model)
        return body, _facts(body, torch.rand(1, in_channels, *image_size))

    def _create(self, in_channels: int, image_size: tuple[int, int], *, pretrained: bool) -> Any:
        import timm

        fixed = timm.get_pretrained_cfg_value(self.model, "fixed_input_size")
        sized = {"img_size": image_size} if fixed and "img_size" not in self.options else {}
        arguments = {"num_classes": 0, "in_chans": in_channels, **sized, **self.options}
        try:
            return timm.create_model(self.model, pretrained=pretrained, **arguments)
        except TypeError as error:
            raise ConfigError(f"'options' must suit {self.model!r}, got {dict(self.options)!r}; {error}") from error
        except Exception as error:
            if not pretrained:
                raise
            # The hub's client, its cache and the network each raise errors of their own.
            raise offline_error(self.model, error) from error

    def _load(self, model: Any, in_channels: int) -> None:
        from timm.models import adapt_input_conv

        facts = model.pretrained_cfg
        weights = read_weights(Path(str(self.weights)))
        first = facts.get("first_conv")
        for name in (first,) if isinstance(first, str) else first or ():
            key = f"{name}.weight"
            if key in weights and weights[key].shape[1] != in_channels:
                weights[key] = adapt_input_conv(in_channels, weights[key])
        heads = facts.get("classifier") or ()
        load_weights(model, weights, ignore=(heads,) if isinstance(heads, str) else heads, source=str(self.weights))


class _Body(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.maps = nn.Identity()  # a place to look at the last feature map, the same in every model

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model.forward_head(self.maps(self.model.forward_features(images)), pre_logits=True)
        return features


def _facts(body: _Body, probe: Tensor) -> Facts:
    config = body.model.pretrained_cfg
    width = int(getattr(body.model, "head_hidden_size", None) or body.model.num_features)
    return Facts(num_features=width, mean=tuple(config["mean"]), std=tuple(config["std"]), **_target(body, probe))


# Where the last feature map is and what its axes are, judged by a probe: models of timm do not all say it.
def _target(body: _Body, probe: Tensor) -> dict[str, Any]:
    tokens = getattr(body.model, "num_prefix_tokens", None)
    inner = f"model.blocks.{len(getattr(body.model, 'blocks', ())) - 1}.norm1"
    # Of the last map only the class token may have a gradient, so patches are taken before attention.
    layer = inner if tokens is not None and inner in dict(body.named_modules()) else "maps"
    shape = _shape(body, layer, probe)
    if len(shape) == 4:
        return {"target_layer": layer, "layout": getattr(body.model, "output_fmt", "NCHW")}
    prefix = _prefix(shape[1], tokens or 0, probe.shape[-2:]) if len(shape) == 3 else None
    if prefix is None or (prefix and layer == "maps"):
        return {}
    return {"target_layer": layer, "layout": "NLC", "prefix_tokens": prefix}


def _shape(body: _Body, layer: str, probe: Tensor) -> tuple[int, ...]:
    seen: list[Any] = []
    handle = body.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        with torch.no_grad():
            body.eval()(probe)
    except (RuntimeError, AssertionError, ValueError):
        return ()  # the probe of 'build' will say what is wrong
    finally:
        handle.remove()
    return tuple(seen[-1].shape) if seen and isinstance(seen[-1], Tensor) else ()


# How many tokens stand before a grid that has the proportions of the image.
def _prefix(length: int, tokens: int, size: torch.Size) -> int | None:
    for prefix in (tokens, 0, 1):
        places = length - prefix
        rows = round(math.sqrt(max(places, 0) * size[0] / size[1]))
        if places > 1 and rows and places % rows == 0 and abs(places / rows - rows * size[1] / size[0]) < 1:
            return prefix
    return None
