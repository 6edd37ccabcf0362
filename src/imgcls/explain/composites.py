"""Which rule each layer gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from imgcls.core import config
from imgcls.core.errors import ConfigError, nearest
from imgcls.explain.rules import FIRST, RULES, AlphaBeta, Box, Epsilon, FirstRule, Flat, Gamma, Rule, ZPlus

__all__ = ["COMPOSITES", "GAMMA", "PLUS", "Composite", "to_composite"]


def _rule(value: Any) -> Any:
    return config.pick(RULES, value, path="rule")


def _first(value: Any) -> Any:
    return config.pick(FIRST, value, path="first")


@attrs.frozen(kw_only=True)
class Composite:
    """Which rule each layer gets; rules may be given by name or as `{"name": ..., **options}`.

    Attributes:
        conv: Of convolutions.
        linear: Of linear layers.
        first: Of the first convolution or linear layer; None gives it the rule of its kind.
    """

    conv: Rule = attrs.field(factory=Epsilon, converter=_rule)
    linear: Rule = attrs.field(factory=Epsilon, converter=_rule)
    first: FirstRule | None = attrs.field(default=None, converter=attrs.converters.optional(_first))

    def favours(self) -> bool:
        """Say whether a rule favours a sign by changing weights.

        Returns:
            Whether there is a gamma rule.
        """
        return isinstance(self.conv, Gamma) or isinstance(self.linear, Gamma)


#: What networks with batch norm or none get by default, and those with layer norm.
PLUS = Composite(conv=ZPlus(), linear=Epsilon())
GAMMA = Composite(conv=Gamma(gamma=0.25), linear=Gamma(gamma=0.05))

#: By name; most are those of zennit.
COMPOSITES: Mapping[str, Composite] = {
    "epsilon": Composite(),
    "epsilon-plus": PLUS,
    "epsilon-plus-flat": Composite(conv=ZPlus(), linear=Epsilon(), first=Flat()),
    "epsilon-gamma-box": Composite(conv=Gamma(gamma=0.25), linear=Epsilon(), first=Box()),
    "epsilon-alpha2-beta1": Composite(conv=AlphaBeta(alpha=2.0, beta=1.0), linear=Epsilon()),
    "epsilon-alpha2-beta1-flat": Composite(conv=AlphaBeta(alpha=2.0, beta=1.0), linear=Epsilon(), first=Flat()),
    "gamma": GAMMA,
}


def to_composite(value: Any) -> Any:
    """Check what is given for a composite.

    Args:
        value: A name, a mapping of the fields of a `Composite`, one of these, or None.

    Returns:
        The name, the composite, or None.

    Raises:
        ConfigError: if there is no composite of that name, or a rule is wrong.
    """
    if value is None or isinstance(value, Composite):
        return value
    if isinstance(value, Mapping):
        return config.build(Composite, value, path="composite")
    if value not in list(COMPOSITES):
        remedy = nearest(str(value), COMPOSITES)
        raise ConfigError(f"'composite' must be None, a Composite or the name of one, got {value!r}; {remedy}")
    return value
