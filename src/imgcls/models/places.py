"""Where a network may be cut: its blocks, the shapes that modules give, and what a `cut` means."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError, listing, nearest

__all__ = ["Place", "Reached", "grid_prefix", "place_of", "places", "resolve", "seen_shapes"]

#: Modules that hold blocks without being one.
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

_GLOBAL_POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@attrs.frozen(kw_only=True)
class Place:
    """A module behind which a network may be cut.

    Attributes:
        name: The module.
        layout: The axes of its map: `NCHW`, `NHWC` or `NLC`.
        channels: The length of its features.
        size: Height and width of its map.
        stride: Pixels of the image a place of the map, as the nearest power of two.
        prefix_tokens: How many tokens before the patches belong to no place.
    """

    name: str
    layout: str
    channels: int
    size: tuple[int, int]
    stride: int
    prefix_tokens: int = 0


class Reached(Exception):  # noqa: N818 (no error)
    """Carries the maps out of a network that is cut.

    Args:
        maps: What the last module gave.
    """

    def __init__(self, maps: Any) -> None:
        super().__init__()
        self.maps = maps


def resolve(model: nn.Module, cut: str, probe: Tensor, *, prefix_tokens: int = 0) -> str:
    """Find the module that a `cut` means.

    Args:
        model: The network.
        cut: `stride16` for the last maps of that stride, or the name of a module.
        probe: Images (B, C, H, W) for a trial.
        prefix_tokens: How many tokens before the patches belong to no place.

    Returns:
        The module's name.

    Raises:
        ConfigError: if there is no such stride or module.
    """
    if re.fullmatch(r"stride\d+", cut):
        strides = {f"stride{place.stride}": place.name for place in places(model, probe, prefix_tokens=prefix_tokens)}
        if cut not in strides:
            raise ConfigError(f"'cut' must be a stride that the network has, got {cut!r}; there are {listing(strides)}")
        return strides[cut]
    names = [name for name, _ in model.named_modules() if name]
    if cut not in names:
        raise ConfigError(f"'cut' must be a stride or name a module, got {cut!r}; {nearest(cut, names)}")
    return cut


def places(model: nn.Module, probe: Tensor, *, prefix_tokens: int = 0) -> tuple[Place, ...]:
    """Find where a network may be cut between its blocks, up to its global pooling.

    Args:
        model: The network.
        probe: Images (B, C, H, W) for a trial.
        prefix_tokens: How many tokens before the patches belong to no place.

    Returns:
        The places in the order in which the network passes them.
    """
    shapes = seen_shapes(model, probe)
    often, found = Counter(name for name, _ in shapes), []
    for name, shape in shapes:
        if not _between_blocks(model, name):
            continue
        if isinstance(model.get_submodule(name), _GLOBAL_POOLS):
            break
        place = place_of(name, shape, probe.shape[-2:], prefix_tokens)
        if place is not None and often[name] == 1:
            found.append(place)
    return tuple(found)


def _between_blocks(model: nn.Module, name: str) -> bool:
    parts = name.split(".")
    above = (".".join(parts[:count]) for count in range(1, len(parts)))
    # Classes that extend a list are blocks of their own.
    return all(type(model.get_submodule(path)) in _LISTS for path in above)


def seen_shapes(model: nn.Module, probe: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Run a network in evaluation mode and note the shape that each module gives.

    Args:
        model: The network.
        probe: Images (B, C, H, W).

    Returns:
        Names and shapes in the order in which the modules answered; those that do not give a
        tensor have an empty shape. Empty if the network cannot take the images.
    """
    found: list[tuple[str, tuple[int, ...]]] = []

    def watch(name: str) -> Any:
        def look(_: nn.Module, __: Any, output: Any) -> None:
            found.append((name, tuple(output.shape) if isinstance(output, Tensor) else ()))

        return look

    handles = [
        # First in line, since a hook of a network that is cut leaves it.
        module.register_forward_hook(watch(name), prepend=True)
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            model.eval()(probe)
    except Reached:
        return found
    except (RuntimeError, AssertionError, ValueError):
        return []  # the probe of 'build' will say what is wrong
    finally:
        for handle in handles:
            handle.remove()
    return found


def place_of(name: str, shape: tuple[int, ...], image: Sequence[int], tokens: int) -> Place | None:
    """Read the shape that a module gives as that of a map.

    Args:
        name: The module.
        shape: What it gives for a batch.
        image: Height and width of the images.
        tokens: How many tokens the network says to put before the patches.

    Returns:
        The place, or None where the shape has not the proportions of the image.
    """
    prefix = 0
    if len(shape) == 4:
        layout = "NCHW" if _fits(shape[2:], image) else "NHWC"
        size, channels = (shape[2:], shape[1]) if layout == "NCHW" else (shape[1:3], shape[3])
        if not _fits(size, image):
            return None
    elif len(shape) == 3:
        found = grid_prefix(shape[1], tokens, image)
        if found is None:
            return None
        layout, prefix, channels = "NLC", found, shape[2]
        rows = round(math.sqrt((shape[1] - prefix) * image[0] / image[1]))
        size = (rows, (shape[1] - prefix) // rows)
    else:
        return None
    stride = 2 ** round(math.log2(math.sqrt(image[0] * image[1] / (size[0] * size[1]))))
    return Place(
        name=name, layout=layout, channels=channels, size=(size[0], size[1]), stride=stride, prefix_tokens=prefix
    )


# Whether a map has the proportions of the image, up to rounding.
def _fits(size: Sequence[int], image: Sequence[int]) -> bool:
    height, width = image
    return 0 < size[0] <= height and size[1] > 0 and abs(size[0] * width - size[1] * height) < 2 * max(image)


def grid_prefix(length: int, tokens: int, image: Sequence[int]) -> int | None:
    """Find how many tokens stand before a grid that has the proportions of the image.

    Args:
        length: How many tokens there are.
        tokens: How many the network says to put before them.
        image: Height and width of the image.

    Returns:
        `tokens`, 0 or 1; None if no number leaves such a grid of more than one place.
    """
    for prefix in (tokens, 0, 1):
        count = length - prefix
        rows = round(math.sqrt(max(count, 0) * image[0] / image[1]))
        if count > 1 and rows and count % rows == 0 and abs(count / rows - rows * image[1] / image[0]) < 1:
            return prefix
    return None
