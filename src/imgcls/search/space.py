"""The search space: dotted paths into a Trainer, each with the values to try.

In Python a space is a mapping to `Choice`, `Float`, `Int` and `Fixed`; its plain form, for
YAML and JSON, has one key per kind:

```yaml
backbone: [resnet18, convnext_atto]               # a list means a choice
optimizer: {choice: [adamw, sgd]}                 # the same with room for a condition
optimizer.momentum: {float: [0.5, 0.99], when: {optimizer: sgd}}
stages.1.lr: {float: [1e-5, 1e-2], log: true}
head.depth: {int: [1, 3]}                         # also step: 2, log: true
batch_size: 32                                    # any other value is fixed
stages: {fixed: [{epochs: 2}]}                    # a list or mapping that is the value itself
```

A condition names other paths and one value or a list of values of each; the parameter is
part of a trial only where all of them hold. A path comes after the paths that it depends on
or leads into, so that a trial's parameters can be applied one after the other.
"""

from __future__ import annotations

import graphlib
import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, final

import attrs
import numpy as np

from imgcls.core.config import at
from imgcls.core.errors import ConfigError, listing, nearest
from imgcls.core.options import rejected
from imgcls.search.parameters import Choice, Fixed, Float, Int, Parameter
from imgcls.search.plain import canonical
from imgcls.search.reading import parameter

__all__ = ["Choice", "Fixed", "Float", "Int", "Parameter", "Space"]


def _parameters(given: Any) -> dict[str, Parameter]:
    if not isinstance(given, Mapping) or not given:
        raise rejected("space", "map at least one path of the Trainer to values", given)
    for path in given:
        if not isinstance(path, str) or not all(path.split(".")):
            raise rejected("space", "have dotted paths as keys, such as 'stages.1.lr'", path)
    parameters = {path: parameter(value, path=f"space.{path}") for path, value in given.items()}
    for path, one in parameters.items():
        with at(f"space.{path}"):
            _check_conditions(one, parameters)
    return {path: parameters[path] for path in _in_order(parameters)}


def _check_conditions(one: Parameter, parameters: Mapping[str, Parameter]) -> None:
    for path, values in one.when.items():
        if path not in parameters:
            raise ConfigError(f"'when.{path}' must name a parameter of the space; {nearest(path, parameters)}")
        if parameters[path].listed() is None:
            raise rejected(f"when.{path}", "name a discrete parameter", parameters[path].to_dict())
        for value in values:
            if not parameters[path].holds(value):
                raise rejected(f"when.{path}", parameters[path].rule, value, "the condition could never hold")


# Paths stand behind those that they need, and as they were given otherwise.
def _in_order(parameters: Mapping[str, Parameter]) -> list[str]:
    needs = {path: set(one.when) | _above(path, parameters) for path, one in parameters.items()}
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        circle = listing(error.args[1], last=", ")
        raise ConfigError(f"'space' must have no circular conditions, got the circle {circle}; drop one") from None
    order: list[str] = []
    while len(order) < len(needs):
        order.append(next(path for path in needs if path not in order and needs[path] <= set(order)))
    return order


def _above(path: str, parameters: Mapping[str, Parameter]) -> set[str]:
    parts = path.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))} & set(parameters)


@final
@attrs.frozen(kw_only=True)
class Space(Mapping[str, Parameter]):
    """Parameters by dotted path, in the order in which a trial applies them.

    Attributes:
        parameters: What `Space.of` takes.

    Raises:
        ConfigError: if there is no parameter, or a condition is unknown, circular or never true.

    Examples:
        >>> space = Space.of({
        ...     "optimizer": ["adamw", "sgd"],
        ...     "optimizer.momentum": Choice(0.8, 0.9, when={"optimizer": "sgd"}),
        ... })
        >>> for params in space.grid():
        ...     print(params)
        {'optimizer': 'adamw'}
        {'optimizer': 'sgd', 'optimizer.momentum': 0.8}
        {'optimizer': 'sgd', 'optimizer.momentum': 0.9}
    """

    _parameters: dict[str, Parameter] = attrs.field(
        converter=_parameters, eq=lambda parameters: tuple(parameters.items())
    )

    @classmethod
    def of(cls, space: Any) -> Space:
        """Make a space from what users write; serves as the converter of fields.

        Args:
            space: A space, which is returned, or a mapping from dotted paths to parameters,
                their plain forms, lists (choices) and other plain values (fixed).

        Returns:
            The space.

        Raises:
            ConfigError: if something in it is wrong; the message has its path.
        """
        return space if isinstance(space, Space) else cls(parameters=space)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Space:
        """Read the plain form that `to_dict` writes.

        Args:
            plain: Plain values by path.

        Returns:
            The space.

        Raises:
            ConfigError: if something in it is wrong; the message has its path.
        """
        return cls(parameters=plain)

    def to_dict(self) -> dict[str, Any]:
        """Write the space as plain values.

        Returns:
            The plain form, each parameter with its kind.
        """
        return {path: one.to_dict() for path, one in self.items()}

    @property
    def hash(self) -> str:
        """The sha256 of the plain form, in 64 hexadecimal digits.

        The order of the paths counts, since the n-th trial rests on it.
        """
        return hashlib.sha256(canonical(list(self.to_dict().items())).encode()).hexdigest()

    def size(self) -> int | None:
        """Count the distinct combinations.

        Returns:
            Their number, or None where a parameter is continuous.
        """
        counts = {path: len(values) for path, one in self.items() if (values := one.listed()) is not None}
        if len(counts) < len(self):
            return None
        deciding = {path for one in self.values() for path in one.when}
        free = [path for path in self if path not in deciding]  # these need no listing, only their counts
        return sum(
            math.prod(counts[path] for path in free if self.active(path, params))
            for params in self._combinations([path for path in self if path in deciding], {}, points=None)
        )

    def grid(self, *, points: int | None = None) -> Iterator[dict[str, Any]]:
        """Go through the distinct combinations; the last parameter changes fastest.

        Args:
            points: How many values stand for each `Float` and each logarithmic `Int`.

        Returns:
            The parameters of each combination by path, the inactive ones left out.

        Raises:
            ConfigError: if a parameter is continuous and `points` is None.
        """
        endless = [path for path, one in self.items() if one.listed(points=points) is None]
        if endless:
            raise rejected("points", f"be given for the continuous {listing(endless)}", points)
        return self._combinations(list(self), {}, points=points)

    def _combinations(self, paths: list[str], done: dict[str, Any], *, points: int | None) -> Iterator[dict[str, Any]]:
        if not paths:
            yield done
            return
        path, rest = paths[0], paths[1:]
        if not self.active(path, done):
            yield from self._combinations(rest, done, points=points)
            return
        for value in self[path].listed(points=points) or ():
            yield from self._combinations(rest, {**done, path: value}, points=points)

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draw a combination, each parameter independently of the others.

        Args:
            rng: Where chance comes from.

        Returns:
            The parameters by path, the inactive ones left out.
        """
        return self.at(rng.random(len(self)).tolist())

    def at(self, shares: Sequence[float]) -> dict[str, Any]:
        """Give the combination at a point of the unit cube.

        Args:
            shares: From 0 to 1, one for each path.

        Returns:
            The parameters by path, the inactive ones left out.
        """
        params: dict[str, Any] = {}
        for (path, one), share in zip(self.items(), shares, strict=True):
            if self.active(path, params):
                params[path] = one.at(share)
        return params

    def unused(self, used: Collection[str]) -> dict[str, Any] | None:
        """Find a combination that was not tried.

        Args:
            used: The canonical texts of those that were.

        Returns:
            The first one that is left; None where there is none, or the space is continuous.
        """
        if self.size() is None:
            return None
        return next((params for params in self.grid() if canonical(params) not in used), None)

    def check(self, params: Mapping[str, Any]) -> None:
        """Check that parameters are one point of the space.

        Args:
            params: Values by path.

        Raises:
            ConfigError: if a path is unknown, missing or inactive, or a value lies outside.
        """
        self.check_paths(params)
        for path, one in self.items():
            active = self.active(path, params)
            if active and path not in params:
                raise ConfigError(f"'params.{path}' must be given")
            if not active and path in params:
                conditions = {other: list(values) for other, values in one.when.items()}
                raise rejected(f"params.{path}", f"be left out unless {conditions}", params[path])
            if active and not one.holds(params[path]):
                raise rejected(f"params.{path}", one.rule, params[path])

    def check_paths(self, params: Mapping[str, Any]) -> None:
        """Check that parameters name only paths of the space.

        Args:
            params: Values by path.

        Raises:
            ConfigError: if a path is unknown; with the nearest ones.
        """
        for path in params:
            if path not in self:
                raise ConfigError(f"'params.{path}' must name a parameter of the space; {nearest(str(path), self)}")

    def active(self, path: str, params: Mapping[str, Any]) -> bool:
        """Say whether a parameter matters.

        Args:
            path: The parameter.
            params: Those before it, by path.

        Returns:
            Whether its conditions hold.
        """
        return all(
            other in params and canonical(params[other]) in map(canonical, values)
            for other, values in self[path].when.items()
        )

    def __getitem__(self, path: str) -> Parameter:
        return self._parameters[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)
