"""The family of class activation maps, against pytorch-grad-cam and against what they must sum to."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from imgcls.core.errors import UnsupportedModelError
from imgcls.explain.base import Score, explainers
from imgcls.explain.cam import Cam
from imgcls.explain.grad_cam import HiresCam
from imgcls.explain.isolation import isolated
from imgcls.explain.layers import placed
from imgcls.models.base import Classifier, Facts, backbones
from imgcls.models.head import Head

RESNET = {"name": "timm", "model": "test_resnet", "pretrained": False}


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def librarys(kind: str, model: Classifier, images: Tensor, target: list[int]) -> Any:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with getattr(pytorch_grad_cam, kind)(model, [model.target_module()]) as cam:
        return cam(images, [ClassifierOutputTarget(number) for number in target])


# As the library shows them: positive, from 0 to 1, at the size of the image.
def shown(native: Any) -> Any:
    maps = torch.from_numpy(native).clamp(min=0)
    maps = maps - maps.amin(dim=(1, 2), keepdim=True)
    maps = maps / (1e-7 + maps.amax(dim=(1, 2), keepdim=True))
    return functional.interpolate(maps[:, None], size=(64, 64), mode="bilinear")[:, 0].numpy()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("grad-cam", "GradCAM"),
        ("hires-cam", "HiResCAM"),
        ("layer-cam", "LayerCAM"),
        ("grad-cam++", "GradCAMPlusPlus"),
        ("score-cam", "ScoreCAM"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_maps_are_those_of_the_library(name: str, kind: str, build: Any) -> None:
    model, images = build(RESNET, size=64), drawn(3, 3, 64, 64)
    found = explainers.create(name).explain(model, images, [4, 1, 2])
    expected = librarys(kind, model, images, [4, 1, 2])
    assert np.allclose(shown(found.native), expected, atol=1e-4)


def test_eigen_cam_is_the_first_component_with_the_sign_of_the_strength(build: Any) -> None:
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    model, images = build(RESNET, size=64), drawn(3, 3, 64, 64)
    found = explainers.create("eigen-cam").explain(model, images).native
    maps = last_maps(model, images)
    component, strength = get_2d_projection(maps), maps.mean(axis=1) - maps.mean(axis=(1, 2, 3))[:, None, None]
    sign = np.sign((component * strength).sum(axis=(1, 2)))[:, None, None]
    assert np.allclose(found, np.maximum(component * sign, 0), atol=1e-5)


def last_maps(model: Classifier, images: Tensor) -> Any:
    kept: list[Tensor] = []
    layer = model.target_module()
    assert layer is not None
    handle = layer.register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.no_grad():
        model(images)
    handle.remove()
    return kept[0].numpy()


# Where a mean and a linear layer follow, all that matters is known in closed form.


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "regnety_002", "densenet121"])
def test_cam_is_the_logit_without_its_bias(name: str, build: Any) -> None:
    model: Any = isolated(build({"name": "timm", "model": name, "pretrained": False}, size=64), torch.float64)
    images = drawn(2, 3, 64, 64).double()
    native = Cam().attribute(model, images, Score([3, 1]))
    with torch.no_grad():
        logits = model(images)
    bias = model.head[-1].bias[[3, 1]] + model.prior_shift[[3, 1]]
    assert torch.allclose(native.sum(dim=(1, 2)) + bias, logits[[0, 1], [3, 1]], atol=1e-12)


def test_the_maps_of_the_family_agree_there(build: Any) -> None:
    model, images = build(RESNET, size=64), drawn(2, 3, 64, 64)
    cam, hires, grad = (
        explainers.create(name).explain(model, images, 1).native for name in ("cam", "hires-cam", "grad-cam")
    )
    assert np.allclose(hires, cam, atol=1e-5 * np.abs(cam).max())
    assert np.allclose(grad, np.maximum(cam, 0), atol=1e-5 * np.abs(cam).max())


@pytest.mark.parametrize("name", ["test_convnext", "mobilenetv3_small_050"])
def test_cam_is_refused_where_something_follows_the_mean(name: str, build: Any) -> None:
    model = build({"name": "timm", "model": name, "pretrained": False}, size=64)
    with pytest.raises(UnsupportedModelError, match=r"got features that are not the mean .*Head\(pool='avg'\)"):
        Cam().explain(model, drawn(1, 3, 64, 64))
    pooled = backbones.create({"name": "timm", "model": name, "pretrained": False}).build(
        3, image_size=(64, 64), head=Head(pool="avg")
    )
    assert Cam().explain(pooled, drawn(2, 3, 64, 64)).valid.all()


def test_cam_is_refused_for_a_head_with_a_hidden_layer() -> None:
    model = backbones.create("small-cnn").build(3, image_size=(16, 16), head=Head(depth=2))
    with pytest.raises(UnsupportedModelError, match="got a head of 3 layers"):
        Cam().explain(model, drawn(1, 3, 16, 16))


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
def test_networks_that_are_cut_have_finer_exact_maps(name: str) -> None:
    backbone = backbones.create({"name": "timm", "model": name, "pretrained": False, "cut": "stride16"})
    model = backbone.build(3, image_size=(64, 64))
    found = Cam().explain(model, drawn(2, 3, 64, 64), 2)
    assert found.native.shape == (2, 4, 4)
    bias = model.head[-1].bias[2].item()  # type: ignore[index]
    assert np.allclose(found.native.sum(axis=(1, 2)) + bias, found.score, atol=1e-4)


# Numbers of the tests of captum.


class OneConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1, self.fc = nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Linear(8, 4)
        with torch.no_grad():
            self.conv1.weight.fill_(1)
            self.conv1.bias.copy_(torch.tensor([-50.0, -75.0]))  # type: ignore[union-attr]
            self.fc.weight.copy_(torch.tensor([1.0] * 5 + [-1.0] * 3).expand(4, 8))
            self.fc.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.relu1(self.conv1(images)).flatten(1))
        return logits


@pytest.mark.parametrize(
    ("layer", "expected"), [("conv1", [11.25, 13.5, 20.25, 22.5]), ("relu1", [0.0, 4.0, 28.0, 32.5])]
)
def test_captums_grad_cam(layer: str, expected: list[float]) -> None:
    model = Classifier(OneConvolution(), nn.Identity(), Facts(num_features=4, target_layer=layer))
    images = torch.arange(16.0).view(1, 1, 4, 4)
    assert explainers.create("grad-cam").explain(model, images, 0).native.flatten().tolist() == expected


# The layer is found by itself.


@pytest.mark.parametrize(
    ("name", "options", "layer"),
    [
        ("test_resnet", {}, "layer4"),
        ("test_convnext", {}, "norm_pre"),
        ("test_vit", {}, "blocks.5.norm1"),
        ("vgg11", {}, "features"),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "window_size": 4, "depths": (1, 1), "num_heads": (2, 2)},
            "norm",
        ),
    ],
)
def test_the_last_maps_of_a_plain_model_are_found(name: str, options: Any, layer: str) -> None:
    model = timm.create_model(name, num_classes=3, **options)
    assert placed(isolated(model), drawn(1, 3, 64, 64), "GradCam").facts.target_layer == layer
    found = HiresCam().explain(model, drawn(2, 3, 64, 64))
    assert found.provenance["layer"] == layer
    assert found.valid.all() or (found.logits == 0).all()


def test_the_last_maps_of_torchvisions_transformer_are_found() -> None:
    backbone = backbones.create({"name": "torchvision", "model": "vit_b_16", "pretrained": False})
    model = backbone.build(3, image_size=(32, 32))
    found = explainers.create("grad-cam").explain(model, drawn(1, 3, 32, 32))
    assert found.provenance["layer"] == "encoder.layers.encoder_layer_11.ln_1"
    assert found.native.shape == (1, 2, 2)


def test_a_model_without_maps_is_refused_with_what_to_do() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(
        UnsupportedModelError, match=r"none was found; use 'lrp' or 'occlusion', or wrap it as Classifier"
    ):
        explainers.create("grad-cam").explain(plain, drawn(1, 3, 4, 4))
