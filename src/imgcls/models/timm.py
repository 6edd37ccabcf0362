"""Any model of timm as a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core import options
from imgcls.core.errors import ConfigError, nearest
from imgcls.models.base import Backbone, Facts, backbones
from imgcls.models.cuts import inside_model, trim
from imgcls.models.places import grid_prefix, resolve, seen_shapes
from imgcls.models.weights import Unmatched, absolute, downloads, load_weights, offline_error, read_weights

__all__ = ["TimmBackbone"]

#: Files that the hub's client may have in its cache.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")

#: Seconds that the hub has to answer at all.
_PATIENCE = 10.0

#: What timm takes for "in the same group as what comes before".
_WITH_PREVIOUS = (99999,)


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
            checkpoint of tensors; or the checkpoint folder of a run. The classifier in it is
            dropped; for one channel, the first convolution is summed over the colours.
        strict: Whether all of the file must fit; else what does not is left out and listed.
        cut: Where the network ends, for finer maps: a stride such as `stride16`, or the name of
            a module such as `layer3`. What follows is removed; the features are the mean of
            the maps.
        options: Further arguments of `timm.create_model`.
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
            in_channels: 1 or 3.
            image_size: Height and width; passed on to models that are built for one size.
            initial: Whether to load pretrained or given weights.

        Returns:
            The module and its facts.
        """
        pretrained = initial and downloads(self.pretrained, self.weights)
        model = self._create(in_channels, image_size, pretrained=pretrained)
        whole = set(model.state_dict())
        body, facts = self._body(model, torch.rand(1, in_channels, *image_size))
        if self.weights is not None and initial:
            facts = attrs.evolve(facts, unmatched=self._load(body, model, whole))
        return body, facts

    def _body(self, model: Any, probe: Tensor) -> tuple[nn.Module, Facts]:
        config = model.pretrained_cfg
        width = int(getattr(model, "head_hidden_size", None) or model.num_features)
        facts = Facts(
            num_features=width,
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            prefix_tokens=getattr(model, "num_prefix_tokens", 0),
            blocks=_groups(model, coarse=True),
            layers=_groups(model, coarse=False),
        )
        if self.cut is not None:
            last = resolve(model, self.cut, probe, prefix_tokens=facts.prefix_tokens)
            return trim(model, facts, last=last, pool="avg", probe=probe)
        body = _Body(model)
        named = attrs.evolve(facts, blocks=inside_model(facts.blocks), layers=inside_model(facts.layers))
        return body, attrs.evolve(named, last_map="maps", **{"prefix_tokens": 0, **_target(body, probe)})

    def _create(self, in_channels: int, image_size: tuple[int, int], *, pretrained: bool) -> Any:
        import timm

        fixed = timm.get_pretrained_cfg_value(self.model, "fixed_input_size")
        sized = {"img_size": image_size} if fixed and "img_size" not in self.options else {}
        arguments = {"num_classes": 0, "in_chans": in_channels, **sized, **self.options}
        try:
            if pretrained:
                _check_reachable(self.model)
            return timm.create_model(self.model, pretrained=pretrained, **arguments)
        except TypeError as error:
            raise ConfigError(f"'options' must suit {self.model!r}, got {dict(self.options)!r}; {error}") from error
        except Exception as error:
            if not pretrained:
                raise
            # The hub's client, its cache and the network each raise errors of their own.
            raise offline_error(self.model, error) from error

    def _load(self, body: nn.Module, model: Any, whole: set[str]) -> Unmatched | None:
        heads = model.pretrained_cfg.get("classifier") or ()
        ignore = {*((heads,) if isinstance(heads, str) else heads), *whole}
        source = str(self.weights)
        return load_weights(body, read_weights(Path(source)), ignore=ignore, source=source, strict=self.strict) or None


# The hub's client tries again for most of a minute where there is no network; this asks once.
def _check_reachable(model: str) -> None:
    import huggingface_hub
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model)
    repository = None if config is None else config.hf_hub_id
    if repository is None or any(
        isinstance(huggingface_hub.try_to_load_from_cache(repository, name), str) for name in _HUB_FILES
    ):
        return
    huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=_PATIENCE)


class _Body(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.maps = nn.Identity()  # a place to look at the last feature map, the same in every model

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model.forward_head(self.maps(self.model.forward_features(images)), pre_logits=True)
        return features


# Where the last feature map is and what its axes are, judged by a probe: models of timm do not all say it.
def _target(body: _Body, probe: Tensor) -> dict[str, Any]:
    tokens = getattr(body.model, "num_prefix_tokens", None)
    inner = f"model.blocks.{len(getattr(body.model, 'blocks', ())) - 1}.norm1"
    # Of the last map only the class token may have a gradient, so patches are taken before attention.
    layer = inner if tokens is not None and inner in dict(body.named_modules()) else "maps"
    shape = dict(seen_shapes(body, probe)).get(layer, ())
    if len(shape) == 4:
        return {"target_layer": layer, "layout": getattr(body.model, "output_fmt", "NCHW")}
    prefix = grid_prefix(shape[1], tokens or 0, probe.shape[-2:]) if len(shape) == 3 else None
    if prefix is None or (prefix and layer == "maps"):
        return {}
    return {"target_layer": layer, "layout": "NLC", "prefix_tokens": prefix}


# Parameters from the stem on as timm groups them, by stages (coarse) or layers; the rest goes with the last group.
def _groups(model: Any, *, coarse: bool) -> tuple[tuple[str, ...], ...]:
    from timm.models import group_parameters

    try:
        matcher = model.group_matcher(coarse=coarse)
    except AttributeError:
        return ()  # a model that says nothing of its blocks
    if isinstance(matcher, Mapping):
        matcher = {**matcher, "rest": [(".", _WITH_PREVIOUS)]}
    found = group_parameters(model, matcher)
    return tuple(tuple(found[number]) for number in sorted(found))
