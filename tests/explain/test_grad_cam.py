from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imgcls.core.errors import UnsupportedModelError
from imgcls.explain.grad_cam import GradCam
from imgcls.models.base import Classifier, Facts


def by_hand(model: Classifier, images: Tensor, target: list[int]) -> Tensor:
    layer, kept = model.target_module(), []
    assert layer is not None
    handle = layer.register_forward_hook(lambda _, __, output: kept.append(output))
    logits = model(images)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[range(len(images)), target].sum(), kept[0])
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * kept[0]).sum(dim=1).relu().detach()


@pytest.mark.parametrize("spec", ["small-cnn", {"name": "timm", "model": "test_resnet", "pretrained": False}])
def test_equals_the_formula_in_its_own_scale(spec: Any, build: Any) -> None:
    model = build(spec, size=64)
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    found = GradCam().explain(model, images, [4, 1, 2])
    assert found.native.shape[1:] in {(8, 8), (2, 2)}
    assert found.native.max() > 0
    assert np.allclose(found.native, by_hand(model, images, [4, 1, 2]), rtol=1e-4, atol=1e-6 * found.native.max())


@pytest.mark.parametrize(
    ("model", "options", "grid"),
    [("test_vit", {}, (2, 2)), ("test_vit3", {}, (2, 2)), ("swin_tiny_patch4_window7_224", {"depths": (1, 1)}, (4, 4))],
)
def test_lays_out_tokens_and_channels_last_maps(model: str, options: dict[str, Any], grid: Any, build: Any) -> None:
    small = {"img_size": 32, "window_size": 4, "embed_dim": 24, "num_heads": (2, 2), **options} if options else {}
    classifier = build({"name": "timm", "model": model, "pretrained": False, "options": small}, outputs=3)
    found = GradCam().explain(classifier, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
    assert found.native.shape == (2, *grid)
    assert found.maps.shape == (2, 32, 32)
    assert found.valid.all()


class Tokens(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).transpose(1, 2)
        return torch.cat([torch.full_like(tokens[:, :2], 9.0), tokens], dim=1)


class Mean(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.mean(dim=1)


def tokens_model(**facts: Any) -> Classifier:
    body = nn.Sequential(Tokens(), Mean(), nn.Identity())
    given = {"num_features": 1, "target_layer": "0", "layout": "NLC", "prefix_tokens": 2, **facts}
    return Classifier(body, nn.Linear(1, 2), Facts(**given))


def test_each_token_lies_where_its_pixels_are() -> None:
    images = torch.arange(1.0, 9.0).reshape(1, 1, 2, 4)
    model = tokens_model()
    with torch.no_grad():
        next(model.head.parameters()).fill_(1.0)
    found = GradCam().explain(model, images, 0)
    assert np.allclose(found.native * 10, images[0])


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"layout": "NCHW"}, "gives NCHW maps, got 3 axes from '0'"),
        ({"prefix_tokens": 3}, r"grid of the shape of the image, got 7 tokens for 2 x 4 pixels"),
    ],
)
def test_layers_without_a_feature_map_are_refused(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        GradCam().explain(tokens_model(**facts), torch.randn(1, 1, 2, 4, generator=torch.Generator().manual_seed(2)))


def test_a_layer_that_does_not_run_is_refused(images: Tensor) -> None:
    body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    body.unused = nn.Conv2d(3, 3, 1)
    body.forward = lambda x: body[1](body[0](x))  # type: ignore[method-assign]
    model = Classifier(body, nn.Linear(3, 2), Facts(num_features=3, target_layer="unused"))
    with pytest.raises(UnsupportedModelError, match=r"must run its target layer once .* got 0 outputs"):
        GradCam().explain(model, images)
