from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError, UnsupportedModelError
from imgcls.explain.base import explainers
from imgcls.explain.lrp_zennit import COMPOSITES, LrpZennit


def torchvision(model: str, **options: Any) -> dict[str, Any]:
    return {"name": "torchvision", "model": model, "pretrained": False, "options": options}


def timm(model: str) -> dict[str, Any]:
    return {"name": "timm", "model": model, "pretrained": False}


def batch(size: int = 32) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    "spec", ["small-cnn", torchvision("resnet18"), torchvision("resnet50"), torchvision("vgg11_bn")]
)
def test_relevance_is_conserved(spec: Any, build: Any) -> None:
    found = LrpZennit().explain(build(spec), batch(), [0, 3, 4])
    assert found.conserved is not None
    assert found.conserved == pytest.approx(1.0, abs=1e-3)
    assert np.allclose(found.maps.sum(axis=(1, 2)), found.score, rtol=1e-3)


@pytest.mark.parametrize(
    ("model", "ratio", "count"),
    [
        ("resnet18", 256, 8),
        ("test_resnet", 16, 4),
        pytest.param("resnet50", "6.55[0-9]e.04", 16, marks=pytest.mark.slow),
    ],
)
def test_residual_additions_that_zennit_cannot_see_are_refused(
    model: str, ratio: int | str, count: int, build: Any
) -> None:
    message = rf"within 0.8 to 1.25 .* got a ratio of {ratio}: {count} x addition of two signals .*; use 'lrp'"
    with pytest.raises(UnsupportedModelError, match=message):
        LrpZennit().explain(build(timm(model)), batch())


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        (timm("test_vit"), "layer norm in 'LayerNorm'.*attention in 'Attention'"),
        (timm("test_efficientnet"), "product of two signals .* in 'SqueezeExcite'"),
        (torchvision("vit_b_16"), "got RuntimeError from zennit"),
    ],
)
def test_refusals_name_their_cause(spec: Any, cause: str, build: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=cause):
        LrpZennit().explain(build(spec), batch())


def test_batch_norms_that_cannot_be_merged_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(4 * 900, 2))
    with pytest.raises(UnsupportedModelError, match="got batch norms that cannot be merged"):
        LrpZennit().explain(model, batch())


class Backwards(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.conv(torch.relu(self.norm(images))))
        return logits


def test_batch_norms_that_run_before_their_convolution_are_not_merged_into_it() -> None:
    model = Backwards()
    nn.init.constant_(model.norm.bias, 1.0)
    model.norm.running_var = torch.full((3,), 4.0)
    with pytest.raises(UnsupportedModelError, match="logits changed by"):
        LrpZennit().explain(model, batch())


def test_merging_is_exact_where_eps_is_large(build: Any) -> None:
    model = build({"name": "small-cnn", "base": 4, "depth": 2}, size=16)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.5
    found = LrpZennit().explain(model, batch(16))
    assert found.conserved == pytest.approx(1.0, abs=1e-3)


def test_unknown_composites_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'explainer.composite' must be one of 'epsilon-plus', .*, got 'gamma'"):
        explainers.create({"name": "lrp-zennit", "composite": "gamma"})


@pytest.mark.parametrize("composite", COMPOSITES)
def test_composites_are_those_that_our_own_engine_has(composite: str) -> None:
    from torchvision.models import resnet18

    from imgcls.explain.lrp import Lrp

    model = resnet18(num_classes=5).eval()
    # Zennit hands the whole score to the features: where the bias decides its sign, its map is ours turned over.
    nn.init.zeros_(model.fc.bias)
    own = Lrp(composite=composite).explain(model, batch(64), [0, 3, 4]).native
    found = LrpZennit(composite=composite).explain(model, batch(64), [0, 3, 4]).native
    pairs = zip(own.reshape(3, -1), found.reshape(3, -1), strict=True)
    assert [np.corrcoef(one, other)[0, 1] for one, other in pairs] == pytest.approx([1, 1, 1], abs=0.02)


def test_a_linear_model_shares_its_score_as_the_flat_rule_says() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    images = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    found = LrpZennit().explain(model, images, 1)
    assert np.allclose(found.maps, found.score[0] / 4, rtol=1e-5)
