"""Optimizers as values that a configuration can hold, and the groups of parameters they work on."""

from __future__ import annotations

import abc
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, final

import attrs
import torch
from torch import nn

from imgcls.core import config, options
from imgcls.core.errors import ConfigError, nearest

__all__ = ["Adam", "AdamW", "Optimizer", "Sgd", "Timm", "param_groups", "timm_names", "to_optimizer"]


# Where torch has a fused step, it is taken: for resnet18 on a CPU it takes a fifth of the time of the plain one.


class Optimizer(config.Named, abc.ABC):
    """An optimizer before it knows the parameters."""

    weight_decay: float

    @final
    def over(
        self,
        model: nn.Module,
        *,
        lr: float,
        weight_decay: float | None = None,
        layer_decay: float | None = None,
        lr_scale: float = 1.0,
        depths: Mapping[str, int] | None = None,
    ) -> torch.optim.Optimizer:
        """Make the optimizer of the parameters that train.

        Args:
            model: The model, not wrapped or compiled.
            lr: The learning rate of the head.
            weight_decay: In place of the optimizer's own; None leaves that.
            layer_decay: Factor of the learning rate from each depth to the one below; None is 1.
            lr_scale: Factor of the learning rate of the backbone.
            depths: Depth of each parameter by name, which `layer_decay` needs.

        Returns:
            The optimizer; each of its groups has `lr_scale`, its share of the learning rate.

        Raises:
            ConfigError: if nothing trains.
        """
        groups = param_groups(
            model,
            lr=lr,
            weight_decay=self.weight_decay if weight_decay is None else weight_decay,
            layer_decay=layer_decay,
            lr_scale=lr_scale,
            depths=depths,
        )
        if not groups:
            raise ConfigError("'train' must leave parameters that train, got none; freeze less")
        return self._make(groups, lr)

    @abc.abstractmethod
    def _make(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer: ...


def param_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    lr: float,
    layer_decay: float | None = None,
    lr_scale: float = 1.0,
    depths: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Sort the parameters that train by weight decay and learning rate.

    Biases and the scales of normalisations are not decayed. The learning rate of a parameter
    at depth d of L is `lr * layer_decay ** (L - d)` (Clark et al., 2020, ELECTRA), times
    `lr_scale` in the backbone. timm's own grouping asks the model for its layers by a method
    that our classifiers, other libraries' bodies and our heads do not have.

    Args:
        model: The model; parameters of the backbone are those below `body`.
        weight_decay: Decay of the weights.
        lr: The learning rate of the head.
        layer_decay: Factor of the learning rate from each depth to the one below; None is 1.
        lr_scale: Factor of the learning rate of the backbone.
        depths: Depth of each parameter by name, 0 at the images and most in the head.

    Returns:
        Groups for a torch optimizer with `params`, `lr`, `weight_decay` and `lr_scale`, the
        factor of the group's learning rate, which schedules keep.

    Raises:
        ConfigError: if `layer_decay` is given without `depths`.
    """
    if layer_decay not in {None, 1.0} and depths is None:
        raise options.rejected("layer_decay", "come with the depths of the parameters", layer_decay)
    top = max(depths.values()) if depths else 0
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            below = top - depths[name] if depths else 0
            scale = (layer_decay or 1.0) ** below * (lr_scale if name.startswith("body.") else 1.0)
            decay = weight_decay if parameter.ndim > 1 else 0.0
            empty = {"params": [], "lr": lr * scale, "weight_decay": decay, "lr_scale": scale}
            groups.setdefault((decay, scale), empty)["params"].append(parameter)
    return list(groups.values())


@final
@attrs.frozen(kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Attributes:
        weight_decay: Decay of the weights a step, in units of the learning rate.
        beta1: Decay of the mean of the gradient.
        beta2: Decay of the mean of its square.
        eps: Added to the root of that mean.
    """

    name: ClassVar[str] = "adamw"
    weight_decay: float = attrs.field(default=0.01, validator=options.number(0))
    beta1: float = attrs.field(default=0.9, validator=options.number(0, 1, below=True))
    beta2: float = attrs.field(default=0.999, validator=options.number(0, 1, below=True))
    eps: float = attrs.field(default=1e-8, validator=options.number(0, above=True))

    def _make(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=lr, betas=(self.beta1, self.beta2), eps=self.eps, fused=True)


@final
@attrs.frozen(kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015).

    Attributes:
        weight_decay: Decay of the weights, added to the gradient.
        beta1: Decay of the mean of the gradient.
        beta2: Decay of the mean of its square.
        eps: Added to the root of that mean.
    """

    name: ClassVar[str] = "adam"
    weight_decay: float = attrs.field(default=0.0, validator=options.number(0))
    beta1: float = attrs.field(default=0.9, validator=options.number(0, 1, below=True))
    beta2: float = attrs.field(default=0.999, validator=options.number(0, 1, below=True))
    eps: float = attrs.field(default=1e-8, validator=options.number(0, above=True))

    def _make(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr=lr, betas=(self.beta1, self.beta2), eps=self.eps, fused=True)


@final
@attrs.frozen(kw_only=True)
class Sgd(Optimizer):
    """Stochastic gradient descent with momentum.

    Attributes:
        weight_decay: Decay of the weights, added to the gradient.
        momentum: Share of the last step that goes on.
        nesterov: Whether the gradient is taken after that share.
    """

    name: ClassVar[str] = "sgd"
    weight_decay: float = attrs.field(default=1e-4, validator=options.number(0))
    momentum: float = attrs.field(default=0.9, validator=options.number(0, 1, below=True))
    nesterov: bool = attrs.field(default=False, validator=options.instance(bool))

    def __attrs_post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise options.rejected("nesterov", "be False without momentum", self.nesterov)

    def _make(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov, fused=True)


@functools.cache
def timm_names() -> tuple[str, ...]:
    """List the optimizers of timm that can be used.

    Left out are those that need another package (`bnb...`, `fused...`), second derivatives, or
    chance that their state does not hold (`kron...`), so that no run could resume exactly.

    Returns:
        The names in order.
    """
    from timm import optim

    found = [name for name in optim.list_optimizers() if not name.startswith(("bnb", "fused", "kron"))]
    return tuple(name for name in found if not optim.get_optimizer_info(name).second_order)


def _known(_: Any, __: attrs.Attribute[Any], value: Any) -> None:
    if value not in timm_names():
        raise _unknown(value, timm_names())


def _unknown(name: object, names: tuple[str, ...]) -> ConfigError:
    return options.rejected("optimizer", "name an optimizer", name, nearest(str(name), names))


@final
@attrs.frozen(kw_only=True)
class Timm(Optimizer):
    """Any optimizer of timm: `lamb`, `lion`, `rmsprop`, `adagrad`, `nadamw` ...

    The spec may name it directly: `{"name": "lamb", "options": {"betas": [0.9, 0.98]}}`.

    Attributes:
        optimizer: Its name in timm.
        weight_decay: Decay of the weights, in the way of the optimizer.
        options: Its further arguments; `momentum` is 0.9 where it has one, as in timm.
    """

    name: ClassVar[str] = "timm"
    optimizer: str = attrs.field(validator=_known)
    weight_decay: float = attrs.field(default=0.0, validator=options.number(0))
    options: Mapping[str, Any] = attrs.field(factory=dict, validator=options.instance(Mapping))

    def __attrs_post_init__(self) -> None:
        for key in {"lr", "weight_decay", "params"} & set(self.options):
            raise options.rejected("options", f"leave out {key!r}", dict(self.options), "it is set elsewhere")
        # Options that do not suit are found now and not after the data have been read.
        self._make([{"params": [nn.Parameter(torch.zeros(1))]}], 1e-3)

    def _make(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        from timm import optim

        kind = optim.get_optimizer_class(self.optimizer, bind_defaults=True)
        usual = {"momentum": 0.9} if optim.get_optimizer_info(self.optimizer).has_momentum else {}
        try:
            made: torch.optim.Optimizer = kind(groups, lr=lr, **{**usual, **self.options})
        except (TypeError, ValueError) as error:
            raise options.rejected("options", f"suit {self.optimizer!r}", dict(self.options), str(error)) from error
        return made


_KINDS = (AdamW, Adam, Sgd, Timm)


def to_optimizer(value: Any) -> Any:
    """Make an optimizer from its spec.

    Args:
        value: A name, a spec, an optimizer, or None, which stays. A name that is none of ours
            is one of timm.

    Returns:
        The optimizer, or None.

    Raises:
        ConfigError: if name or options are wrong.

    Examples:
        >>> to_optimizer({"name": "lion", "weight_decay": 0.1}).optimizer
        'lion'
    """
    if value is None or isinstance(value, Optimizer):
        return value
    spec = {"name": value} if isinstance(value, str) else value
    ours = tuple(kind.name for kind in _KINDS)
    if isinstance(spec, Mapping) and spec.get("name") not in ours:
        if spec.get("name") not in timm_names():
            raise _unknown(spec.get("name"), (*ours, *timm_names()))
        spec = {**spec, "name": "timm", "optimizer": spec["name"]}
    return config.pick(_KINDS, spec, path="optimizer")
