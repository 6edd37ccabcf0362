"""The backbones that there are, and one of them in tables."""

from __future__ import annotations

import fnmatch
import sys

from imgcls.core.errors import ConfigError, nearest
from imgcls.core.options import rejected
from imgcls.models.base import backbones
from imgcls.models.summary import Summary, summary

__all__ = ["known_backbones", "show"]

#: Plugins that stand for whole libraries, whose models have names of their own.
_LIBRARIES = ("timm", "torchvision")


def known_backbones(pattern: str = "*") -> list[str]:
    """List the names that a Trainer takes for a backbone.

    Args:
        pattern: Part of a name, or a pattern with `*`, `?` and `[...]`.

    Returns:
        Plugins first, then models of timm and of torchvision.

    Raises:
        ConfigError: if no name matches.
    """
    import timm
    import torchvision

    own = [name for name in backbones.names() if name not in _LIBRARIES]
    others = [f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)]
    names = [*own, *timm.list_models(), *others]
    wanted = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    found = [name for name in names if fnmatch.fnmatchcase(name, wanted)]
    if not found:
        raise ConfigError(f"'pattern' must match a backbone, got {pattern!r}; {nearest(pattern.strip('*'), names)}")
    return found


def show(name: str, *, size: int = 224, channels: int = 3, depth: int = 0, cut: str | None = None) -> None:
    """Print what a backbone consists of, with random weights.

    Args:
        name: Its name.
        size: Side of the images in pixels.
        channels: 1 or 3.
        depth: How deep modules within modules are listed; 0 lists none.
        cut: Where it is cut first.

    Raises:
        ConfigError: if there is no such backbone, or it cannot take such images.
    """
    for option, value, least in (("size", size, 1), ("depth", depth, 0)):
        if value < least:
            raise rejected(option, f"be at least {least}", value)
    if channels not in (1, 3):
        raise rejected("channels", "be 1 or 3", channels)
    backbone = backbones.create(name if cut is None else {"name": name, "cut": cut})
    model = backbone.build(1, in_channels=channels, image_size=(size, size), initial=False)
    _print(name, summary(model, image_size=(size, size), depth=depth), size)


def _print(name: str, found: Summary, size: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    facts = found.facts
    console.print(f"{name}: {found.parameters:,} parameters, {facts.num_features} features of {size} x {size} pixels")
    console.print(
        f"mean {_numbers(facts.mean)}, std {_numbers(facts.std)}, target layer {facts.target_layer or 'none'}"
    )
    parts = Table("Stage(train=", "block", "output", "parameters", box=None, pad_edge=False, title_justify="left")
    for row in found.blocks:
        parts.add_row(f"{row.last})", row.name, _shape(row.shape), f"{row.parameters:,}")
    cuts = Table("cut=", "behind", "maps", "channels", box=None, pad_edge=False)
    for place in found.cuts:
        cuts.add_row(f"stride{place.stride}", place.name, f"{place.size[0]} x {place.size[1]}", str(place.channels))
    layers = Table("module", "kind", "output", "parameters", box=None, pad_edge=False)
    for layer in found.layers:
        layers.add_row(layer.name, layer.kind, _shape(layer.shape), f"{layer.parameters:,}")
    for table in (parts, cuts, layers):
        if table.row_count:
            console.print()
            console.print(table)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[1:])) if shape else ""
