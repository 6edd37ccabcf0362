"""How a layer hands its relevance down: the rules of layer-wise relevance propagation.

Relevance is carried as a gradient g with R = x * g, so that everything linear needs no rule.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from imgcls.core import options
from imgcls.core.config import Named

__all__ = ["FIRST", "RULES", "AlphaBeta", "Box", "Epsilon", "FirstRule", "Flat", "Gamma", "Layer", "Rule", "ZPlus"]

#: Added to denominators, away from zero, as in zennit.
_STABILIZER = 1e-6


@attrs.frozen(kw_only=True, eq=False)
class Layer:
    """A linear layer as a function, batch norm merged.

    Attributes:
        run: From input, weight and bias to output.
        weight: The weight.
        bias: The bias, or None.
    """

    run: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """Run the layer.

        Args:
            x: Its input.

        Returns:
            Its output.
        """
        return self.run(x, self.weight, self.bias)

    def without_bias(self) -> Layer:
        """Take the bias away.

        Returns:
            The layer without.
        """
        return attrs.evolve(self, bias=None)

    def parts(self, change: Callable[[Tensor], Tensor]) -> Layer:
        """Change the weight and the bias.

        Args:
            change: What is done to them.

        Returns:
            The changed layer.
        """
        return attrs.evolve(self, weight=change(self.weight), bias=None if self.bias is None else change(self.bias))


class Rule(Named, abc.ABC):
    """How a layer hands relevance down."""

    @abc.abstractmethod
    def gradient(self, layer: Layer, x: Tensor, y: Tensor, arriving: Tensor) -> Tensor:
        """Compute the relevance of the input over the input.

        Args:
            layer: The layer, without its bias where that is to get nothing.
            x: Its input.
            y: Its output, with the bias.
            arriving: The relevance of the output.

        Returns:
            Of the shape of `x`; times `x` it is the relevance.
        """


@final
@attrs.frozen(kw_only=True)
class Epsilon(Rule):
    """In proportion to input times weight; contradictions are absorbed (Bach et al., 2015, equation 58).

    Attributes:
        epsilon: Added to the output, away from zero; nearly 0 is the rule LRP-0.
    """

    name: ClassVar[str] = "epsilon"

    epsilon: float = attrs.field(default=_STABILIZER, validator=options.number(0))

    def gradient(self, layer: Layer, x: Tensor, y: Tensor, arriving: Tensor) -> Tensor:  # noqa: ARG002 (y may have a bias)
        """Compute the relevance of the input over the input.

        Args:
            layer: The layer.
            x: Its input.
            y: Its output.
            arriving: The relevance of the output.

        Returns:
            Of the shape of `x`.
        """
        return _shared([x], [layer], arriving, epsilon=self.epsilon)[0]


@final
@attrs.frozen(kw_only=True)
class ZPlus(Rule):
    """In proportion to the positive products of input and weight (Bach et al., 2015; alpha 1, beta 0)."""

    name: ClassVar[str] = "z-plus"

    def gradient(self, layer: Layer, x: Tensor, y: Tensor, arriving: Tensor) -> Tensor:  # noqa: ARG002 (see Rule)
        """Compute the relevance of the input over the input.

        Args:
            layer: The layer.
            x: Its input.
            y: Its output.
            arriving: The relevance of the output.

        Returns:
            Of the shape of `x`.
        """
        return _by_sign(x, layer.parts(_positive), layer.parts(_negative), arriving)


@final
@attrs.frozen(kw_only=True)
class AlphaBeta(Rule):
    """Positive products get `alpha` of the relevance, negative ones take `beta` (Bach et al., 2015, equation 60).

    Attributes:
        alpha: Share of the positive products, `beta` + 1.
        beta: Share of the negative products.
    """

    name: ClassVar[str] = "alpha-beta"

    alpha: float = attrs.field(default=2.0, validator=options.number(1))
    beta: float = attrs.field(default=1.0, validator=options.number(0))

    def __attrs_post_init__(self) -> None:
        if self.alpha - self.beta != 1:
            raise options.rejected("beta", f"be 'alpha' - 1 = {self.alpha - 1:g}", self.beta)

    def gradient(self, layer: Layer, x: Tensor, y: Tensor, arriving: Tensor) -> Tensor:  # noqa: ARG002 (see Rule)
        """Compute the relevance of the input over the input.

        Args:
            layer: The layer.
            x: Its input.
            y: Its output.
            arriving: The relevance of the output.

        Returns:
            Of the shape of `x`.
        """
        positive, negative = layer.parts(_positive), layer.parts(_negative)
        found = self.alpha * _by_sign(x, positive, negative, arriving)
        return found - self.beta * _by_sign(x, negative, positive, arriving) if self.beta else found


@final
@attrs.frozen(kw_only=True)
class Gamma(Rule):
    """Like epsilon, with products of the output's sign favoured (Montavon et al., 2019; Andeol et al., 2021).

    For inputs of both signs; for none below 0 and outputs above 0 it is the original rule.

    Attributes:
        gamma: How much is added to the weights of the output's sign, in parts of themselves.
    """

    name: ClassVar[str] = "gamma"

    gamma: float = attrs.field(default=0.25, validator=options.number(0))

    def gradient(self, layer: Layer, x: Tensor, y: Tensor, arriving: Tensor) -> Tensor:
        """Compute the relevance of the input over the input.

        Args:
            layer: The layer.
            x: Its input.
            y: Its output.
            arriving: The relevance of the output.

        Returns:
            Of the shape of `x`.
        """
        high = layer.parts(lambda values: values + self.gamma * values.clamp(min=0))
        low = layer.parts(lambda values: values + self.gamma * values.clamp(max=0))
        zero = torch.zeros((), dtype=y.dtype, device=y.device)
        found = _by_sign(x, high, low, torch.where(y > 0, arriving, zero))
        return found + _by_sign(x, low, high, torch.where(y < 0, arriving, zero))


class FirstRule(Named, abc.ABC):
    """How the first layer hands relevance to the pixels, which may be zero."""

    @abc.abstractmethod
    def relevance(self, layer: Layer, x: Tensor, arriving: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
        """Compute the relevance of the input itself.

        Args:
            layer: The layer.
            x: Its input.
            arriving: The relevance of the output.
            bounds: The lowest and highest values that the input can have, of its shape.

        Returns:
            Of the shape of `x`.
        """


@final
@attrs.frozen(kw_only=True)
class Flat(FirstRule):
    """The same to each pixel that an output sees (Lapuschkin et al., 2019)."""

    name: ClassVar[str] = "flat"

    def relevance(self, layer: Layer, x: Tensor, arriving: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:  # noqa: ARG002 (see FirstRule)
        """Compute the relevance of the input.

        Args:
            layer: The layer.
            x: Its input.
            arriving: The relevance of the output.
            bounds: Not used.

        Returns:
            Of the shape of `x`.
        """
        return _shared([torch.ones_like(x)], [layer.parts(torch.ones_like).without_bias()], arriving)[0]


@final
@attrs.frozen(kw_only=True)
class Box(FirstRule):
    """For inputs between bounds: in proportion to what a pixel adds above the worst it could (Montavon et al., 2017).

    The bounds are black and white in the units of the network, from the mean and the
    deviation of its facts; of a model without facts, the extremes of each image.
    """

    name: ClassVar[str] = "box"

    def relevance(self, layer: Layer, x: Tensor, arriving: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
        """Compute the relevance of the input.

        Args:
            layer: The layer.
            x: Its input.
            arriving: The relevance of the output.
            bounds: The lowest and highest values that the input can have.

        Returns:
            Of the shape of `x`.
        """
        plain = layer.without_bias()
        inputs = (x, *bounds)
        layers = (plain, plain.parts(_positive), plain.parts(_negative))
        signs = (1.0, -1.0, -1.0)
        found = _shared(inputs, layers, arriving, signs=signs)
        return torch.stack([u * g for u, g in zip(inputs, found, strict=True)]).sum(dim=0)


#: The rules that a layer may have, and those of the first one.
RULES: tuple[type[Rule], ...] = (Epsilon, ZPlus, Gamma, AlphaBeta)
FIRST: tuple[type[FirstRule], ...] = (Flat, Box)


def _positive(values: Tensor) -> Tensor:
    return values.clamp(min=0)


def _negative(values: Tensor) -> Tensor:
    return values.clamp(max=0)


# The relevance of each input over the input: it arrives in proportion to what the input adds to the sum of all outputs.
def _shared(
    inputs: Sequence[Tensor],
    layers: Sequence[Layer],
    arriving: Tensor,
    *,
    epsilon: float = _STABILIZER,
    signs: Sequence[float] = (1.0, 1.0),
) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        outputs = [
            sign * layer(x) if sign < 0 else layer(x) for x, layer, sign in zip(leaves, layers, signs, strict=False)
        ]
        total = functools.reduce(torch.add, outputs)
    values = total.detach()
    share = arriving / (values + torch.where(values >= 0, epsilon, -epsilon))
    return list(torch.autograd.grad(total, leaves, share))


# For a layer whose weights depend on the sign of the input: `same` for what is positive, `other` for the rest.
def _by_sign(x: Tensor, same: Layer, other: Layer, arriving: Tensor) -> Tensor:
    if bool((x >= 0).all()):  # behind a ReLU half of the work is to multiply zeros
        return _shared([x], [same], arriving)[0]
    positive, negative = _shared([_positive(x), _negative(x)], [same, other.without_bias()], arriving)
    return torch.where(x > 0, positive, negative)
