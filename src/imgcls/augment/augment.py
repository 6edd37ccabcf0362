"""What a configuration says about augmentation: a list of transforms, or one for each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import attrs

from imgcls.augment.base import Displacement, Geometric, Mixing, Transform
from imgcls.augment.groups import OneOf, to_transforms
from imgcls.augment.presets import PRESETS
from imgcls.core import config, options
from imgcls.core.errors import nearest

__all__ = ["FILLS", "Augment", "Policies", "to_augment"]

FILLS = ("zeros", "border", "reflection")
"""What lies outside of an image: black, its rim, or its mirror image."""


def _to_transforms(value: Any) -> Any:
    return to_transforms(_preset(value) if isinstance(value, str) else value)


def _preset(name: str) -> Sequence[Any]:
    if name not in PRESETS:
        names = ", ".join(map(repr, PRESETS))
        remedy = f"{nearest(name, PRESETS)}; a single transform goes into a list: ['{name}']"
        raise options.rejected("transforms", f"be a list of transforms or one of {names}", name, remedy)
    return PRESETS[name]


def _check_transforms(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, tuple) or not all(isinstance(item, Transform) for item in value):
        raise options.rejected(field.name, "be a list of transforms or the name of a preset", value)


@final
@attrs.frozen(kw_only=True)
class Augment:
    """Transforms of training images.

    Whatever their place in the list, the geometric ones come first, together; then those of
    values, in order; then those that mix images, in order.

    Attributes:
        transforms: A list of transforms, names or specs, or the name of a preset.
        fill: What lies outside of an image that was moved: "zeros", "border" or "reflection".
    """

    transforms: tuple[Transform, ...] = attrs.field(default=(), converter=_to_transforms, validator=_check_transforms)
    fill: str = attrs.field(default="zeros", validator=options.choice(*FILLS))

    def __attrs_post_init__(self) -> None:
        if self.fill != FILLS[0] and not any(_has(item, Geometric, Displacement) for item in self.transforms):
            remedy = "add one such as 'rotate', or drop 'fill'"
            raise options.rejected("fill", "be left out where no transform moves anything", self.fill, remedy)

    @property
    def columns(self) -> int:
        """How many uniforms an image needs."""
        return sum(1 + item.num_uniforms for item in self.transforms)

    @property
    def mixes(self) -> bool:
        """Whether images and targets are mixed."""
        return any(_has(item, Mixing) for item in self.transforms)


def _has(item: Transform, *kinds: type) -> bool:
    return isinstance(item, kinds) or (isinstance(item, OneOf) and any(_has(one, *kinds) for one in item.transforms))


def _to_policies(value: Mapping[str, Any]) -> dict[str, Augment]:
    found = {}
    for name, spec in value.items():
        with config.at(str(name)):
            found[str(name)] = _to_single(spec)
    return found


# A mapping, so that it is written as it is read: {"default": ..., "crack": ...}.
@final
@attrs.frozen
class Policies(Mapping[str, Augment]):
    """Transforms by class.

    A policy may itself betray the class: a network that learns that blurred images are cracks
    learns nothing about cracks. Keep policies alike in kind, and compare with a run without.

    Attributes:
        policies: The Augment of each class by its name; `"default"` is for all others.
    """

    policies: Mapping[str, Augment] = attrs.field(converter=_to_policies)

    def __attrs_post_init__(self) -> None:
        if "default" not in self.policies:
            remedy = "add 'default', the policy of all other classes"
            raise options.rejected("policies", "have a 'default'", list(self.policies), remedy)

    def __getitem__(self, name: str) -> Augment:
        return self.policies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.policies)

    def __len__(self) -> int:
        return len(self.policies)


def to_augment(value: Any, path: str = "augment") -> Any:
    """Make augmentation from its spec.

    Args:
        value: None (nothing happens), the name of a preset, a list of transforms, a mapping
            with `transforms` and `fill`, one with `default` and names of classes, a transform (ours,
            of torchvision v2 or of albumentations), a function of (image, rng), an Augment or Policies.
        path: The option, for messages.

    Returns:
        An Augment, or Policies.

    Raises:
        ConfigError: if the spec is wrong; the message has the path to it.

    Examples:
        >>> to_augment([{"name": "rotate", "degrees": 15}]).transforms[0].degrees
        (-15, 15)
    """
    if isinstance(value, Policies):
        return value
    if isinstance(value, Mapping) and not {"default", "name", "transforms", "fill"} & set(value):
        remedy = "'default' is the policy of all other classes"
        raise options.rejected(path, "have 'transforms', or 'default' and names of classes", list(value), remedy)
    with config.at(path):
        return Policies(value) if isinstance(value, Mapping) and "default" in value else _to_single(value)


def _to_single(value: Any) -> Augment:
    if isinstance(value, Augment):
        return value
    if isinstance(value, Mapping):
        return Augment(transforms=[value]) if "name" in value else config.build(Augment, value, path="")
    if isinstance(value, Transform) or callable(value):
        return Augment(transforms=[value])
    if value is None or isinstance(value, str | Sequence):
        return Augment(transforms=() if value is None else value)
    raise options.rejected("transforms", "be the name of a preset, a list of transforms or a mapping", value)
