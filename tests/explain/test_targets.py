from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError
from imgcls.explain.base import Contrast, Explainer, explainers
from imgcls.explain.targets import NO_CLASS, Score, Target


@pytest.fixture
def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3))


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def method() -> Explainer:
    return explainers.create("input-times-gradient")


def test_a_contrast_is_the_difference_of_two_maps(linear: nn.Module, inputs: Tensor, method: Explainer) -> None:
    found = method.explain(linear, inputs, Contrast(of=2, against=0))
    one, other = (method.explain(linear, inputs, target) for target in (2, 0))
    assert np.allclose(found.maps, one.maps - other.maps, atol=1e-6)
    assert np.allclose(found.score, one.score - other.score, atol=1e-6)
    assert found.target.tolist() == [2, 2]
    assert found.provenance["target"] == "contrast"


def test_a_contrast_says_by_itself_why_the_winner_and_not_the_next() -> None:
    logits = torch.tensor([[1.0, 5.0, 3.0], [9.0, 2.0, 4.0]])
    score = Score(Contrast())
    assert score(logits).tolist() == [2.0, 5.0]
    assert score(2 * logits).tolist() == [4.0, 10.0]


def test_weights_mix_logits(linear: nn.Module, inputs: Tensor, method: Explainer) -> None:
    weights = np.array([[0.5, 0.0, -1.0], [0.0, 2.0, 0.0]])
    found = method.explain(linear, inputs, weights)
    assert np.allclose(found.score, (found.logits * weights).sum(axis=1), atol=1e-6)
    assert found.target.tolist() == [0, 1]
    assert found.provenance["target"] == "weights"


def test_a_function_of_the_logits_is_explained(linear: nn.Module, inputs: Tensor, method: Explainer) -> None:
    found = method.explain(linear, inputs, lambda logits: 2 * logits[:, 1])
    assert np.allclose(found.maps, 2 * method.explain(linear, inputs, 1).maps, atol=1e-6)
    assert (found.target == NO_CLASS).all()


def test_classes_are_named_where_the_names_are_given(linear: nn.Module, inputs: Tensor, method: Explainer) -> None:
    names = ["cat", "dog", "owl"]
    assert method.explain(linear, inputs, "owl", classes=names).target.tolist() == [2, 2]
    assert method.explain(linear, inputs, ["dog", "cat"], classes=names).target.tolist() == [1, 0]
    with pytest.raises(ConfigError, match="'target' must be a class, got 'dgo'; did you mean 'dog'"):
        method.explain(linear, inputs, "dgo", classes=names)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.zeros((2, 4)), r"finite weights of the shape of the logits \(2, 3\), got \(2, 4\)"),
        (torch.full((2, 3), torch.nan), "finite weights"),
        (lambda logits: logits, r"one score per image \(2,\) as a function of the logits, got \(2, 3\)"),
        (Contrast(against=7), "classes from 0 to 2, got 7"),
    ],
)
def test_what_does_not_fit_the_logits_is_refused(
    target: Target, message: str, linear: nn.Module, inputs: Tensor, method: Explainer
) -> None:
    with pytest.raises(ConfigError, match=message):
        method.explain(linear, inputs, target)


def test_a_contrast_needs_two_classes(inputs: Tensor, method: Explainer) -> None:
    with pytest.raises(ConfigError, match="'against' must be another class than 'of', got 1"):
        Contrast(of=1, against=1)
    one: Any = nn.Sequential(nn.Flatten(), nn.Linear(48, 1))
    with pytest.raises(ConfigError, match="be a class where the head has one logit"):
        method.explain(one, inputs, Contrast())
    two: Any = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    with torch.no_grad():
        two[1].bias.copy_(torch.tensor([100.0, 0.0]))
    with pytest.raises(ConfigError, match="must contrast two classes"):
        method.explain(two, inputs, Contrast(against=0))
