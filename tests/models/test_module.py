import pytest
import torch
from torch import Tensor, nn

from imgcls.core.dumping import spec_of
from imgcls.core.errors import ConfigError
from imgcls.models.head import Head
from imgcls.models.module import ModuleBackbone


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, padding=1))


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_folds_start_from_the_weights_given_and_share_none() -> None:
    given = net()
    backbone = ModuleBackbone(module=given)
    one, two = (backbone.build(2, image_size=(8, 8), seed=seed) for seed in (1, 2))
    expected = given(IMAGES).mean(dim=(2, 3))
    assert torch.equal(one.body(IMAGES), expected)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.zero_()
    assert torch.equal(two.body(IMAGES), expected)
    assert torch.equal(given(IMAGES).mean(dim=(2, 3)), expected)


def test_function_gives_each_seed_weights_of_its_own() -> None:
    one, same, other = (
        ModuleBackbone(module=net).build(2, image_size=(8, 8), seed=seed).body(IMAGES) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_features_are_taken_as_they_are() -> None:
    given = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    model = ModuleBackbone(module=given).build(2, image_size=(8, 8))
    assert model.facts.num_features == 6
    assert model.facts.target_layer is None
    assert torch.equal(model.body(IMAGES), given(IMAGES))


def test_maps_are_known_to_explainers_pools_and_cuts() -> None:
    model = ModuleBackbone(module=net()).build(2, image_size=(8, 8), head=Head(pool="max")).eval()
    assert model.target_module() is not None
    cut = ModuleBackbone(module=net(), cut="stride1").build(2, image_size=(8, 8))
    assert cut.body(IMAGES).shape == (2, 4)
    assert sum(parameter.numel() for parameter in cut.body.parameters()) == 4 * 3 * 9 + 4


def test_it_is_recorded_as_opaque() -> None:
    assert "opaque" in spec_of(ModuleBackbone(module=net()))


class Lists(nn.Module):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [images]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Lists(), r"'module' must give features \(B, F\) or maps \(B, F, h, w\), got list"),
        (nn.Conv2d(1, 2, 3), r"'module' must take images \(B, C, H, W\), got an error for \(1, 3, 8, 8\)"),
    ],
)
def test_modules_that_are_no_backbone_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModuleBackbone(module=module).build(2, image_size=(8, 8))


def test_other_things_are_refused() -> None:
    with pytest.raises(ConfigError, match="'module' must be a torch module or a function that makes one, got 3"):
        ModuleBackbone(module=3)  # type: ignore[arg-type]
