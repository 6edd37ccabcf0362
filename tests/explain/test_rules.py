"""Each rule against its formula, written out with matrices."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from imgcls.core.errors import ConfigError
from imgcls.explain.composites import COMPOSITES, Composite, to_composite
from imgcls.explain.rules import AlphaBeta, Box, Epsilon, Flat, Gamma, Layer, Rule, ZPlus

EPS = 1e-6


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


W, B, X, R = drawn(4, 6, seed=1), drawn(4, seed=2), drawn(3, 6, seed=3), drawn(3, 4, seed=4)


def layer(bias: Tensor | None = B) -> Layer:
    return Layer(run=functional.linear, weight=W, bias=bias)


def shared(parts: Tensor, constant: Tensor | float, arriving: Tensor) -> Tensor:
    """From parts (records, outputs, inputs) of sums to the relevance of the inputs."""
    total = parts.sum(dim=2) + constant
    return (parts / (total + torch.where(total >= 0, EPS, -EPS))[:, :, None] * arriving[:, :, None]).sum(dim=1)


Z = X[:, None, :] * W
Y = Z.sum(dim=2) + B


def gamma(factor: float) -> Tensor:
    def favoured(sign: int) -> Tensor:
        parts = Z + factor * (Z * sign).clamp(min=0) * sign
        return shared(parts, B + factor * (B * sign).clamp(min=0) * sign, torch.where(Y * sign > 0, R, 0))

    return favoured(1) + favoured(-1)


CASES: dict[str, tuple[Rule, Callable[[], Tensor]]] = {
    "epsilon": (Epsilon(), lambda: shared(Z, B, R)),
    "z-plus": (ZPlus(), lambda: shared(Z.clamp(min=0), B.clamp(min=0), R)),
    "gamma": (Gamma(gamma=0.25), lambda: gamma(0.25)),
    "alpha 2 beta 1": (
        AlphaBeta(alpha=2.0, beta=1.0),
        lambda: 2 * shared(Z.clamp(min=0), B.clamp(min=0), R) - shared(Z.clamp(max=0), B.clamp(max=0), R),
    ),
    "alpha 1 beta 0": (AlphaBeta(alpha=1.0, beta=0.0), lambda: shared(Z.clamp(min=0), B.clamp(min=0), R)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rule_is_its_formula(case: str) -> None:
    rule, expected = CASES[case]
    assert torch.allclose(X * rule.gradient(layer(), X, Y, R), expected())


@pytest.mark.parametrize("rule", [Epsilon(), ZPlus(), Gamma(), AlphaBeta()])
def test_without_a_bias_everything_is_handed_on(rule: Rule) -> None:
    both = Layer(run=functional.linear, weight=torch.cat([W.abs(), -W.abs()], dim=1), bias=None)  # parts of both signs
    x = drawn(3, 12, seed=5).abs()
    found = x * rule.gradient(both, x, both(x), R)
    assert torch.allclose(found.sum(dim=1), R.sum(dim=1), atol=1e-4)


def test_the_flat_rule_shares_evenly_even_with_zeros() -> None:
    bounds = (X, X)
    found = Flat().relevance(layer(), torch.zeros_like(X), R, bounds)
    assert torch.allclose(found, (R.sum(dim=1) / 6)[:, None].expand(3, 6), atol=1e-6)


def test_the_box_rule_is_its_formula() -> None:
    low, high = torch.full_like(X, -3.0), torch.full_like(X, 4.0)
    parts = Z - low[:, None, :] * W.clamp(min=0) - high[:, None, :] * W.clamp(max=0)
    assert (parts >= 0).all()
    assert torch.allclose(Box().relevance(layer(), X, R, (low, high)), shared(parts, 0.0, R))


def test_alpha_and_beta_belong_together() -> None:
    with pytest.raises(ConfigError, match=r"'beta' must be 'alpha' - 1 = 1, got 0.5"):
        AlphaBeta(alpha=2.0, beta=0.5)


def test_composites_are_given_by_name_mapping_or_value() -> None:
    given = to_composite({"conv": {"name": "gamma", "gamma": 0.1}, "first": "box"})
    assert given == Composite(conv=Gamma(gamma=0.1), linear=Epsilon(), first=Box())
    assert to_composite("epsilon-plus") == "epsilon-plus"
    assert COMPOSITES["epsilon-plus-flat"].first == Flat()
    with pytest.raises(ConfigError, match=r"'composite' must be .*, got 'epsilon-puls'; did you mean 'epsilon-plus'"):
        to_composite("epsilon-puls")
    with pytest.raises(ConfigError, match=r"'composite.first' must name one of its kinds, got 'gamma'"):
        to_composite({"first": "gamma"})
