from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError
from imgcls.explain.base import explainers
from imgcls.models.base import Classifier


@pytest.fixture
def linear() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5))
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return model


def contributions(linear: Any, images: Tensor, target: int) -> Any:
    weight = linear[1].weight[target].reshape(3, 16, 16)
    return (images * weight).sum(dim=1).detach().numpy()


@pytest.mark.parametrize(
    "spec",
    [
        "input-times-gradient",
        {"name": "integrated-gradients", "steps": 3},
        {"name": "occlusion", "window": 1 / 16, "stride": 1.0},
        {"name": "lrp", "composite": "epsilon"},
    ],
)
def test_of_a_linear_model_each_pixel_gets_what_it_adds(spec: Any, linear: nn.Module, images: Tensor) -> None:
    found = explainers.create(spec).explain(linear, images, 2)
    assert np.allclose(found.maps, contributions(linear, images, 2), atol=1e-5)


def test_integrated_gradients_sum_to_what_the_image_adds(small: Classifier, images: Tensor) -> None:
    found = explainers.create({"name": "integrated-gradients", "steps": 256}).explain(small, images, 1)
    with torch.no_grad():
        grey = small(torch.zeros(1, 3, 16, 16))[0, 1].item()
    assert np.allclose(found.maps.sum(axis=(1, 2)), found.score - grey, atol=0.01 * np.abs(found.score - grey).max())


def test_squares_cover_every_pixel_whatever_their_step(linear: nn.Module, images: Tensor) -> None:
    found = explainers.create({"name": "occlusion", "window": 0.3, "stride": 0.7}).explain(linear, images)
    assert np.isfinite(found.maps).all()
    assert found.valid.all()


def test_random_maps_belong_to_the_image_and_the_seed(small: Classifier, images: Tensor) -> None:
    one, again = (
        explainers.create("random").explain(small, images),
        explainers.create("random").explain(small, images[1:]),
    )
    other = explainers.create({"name": "random", "seed": 1}).explain(small, images)
    assert np.array_equal(one.maps[1:], again.maps)
    assert not np.allclose(one.maps, other.maps)
    assert one.maps.mean() == pytest.approx(0.5, abs=0.05)


def test_smoothing_a_linear_model_is_its_map_of_the_mean_image(linear: nn.Module, images: Tensor) -> None:
    smooth = {"name": "smooth", "samples": 64, "noise": 0.05}
    found = explainers.create(smooth).explain(linear, images, 2)
    expected = contributions(linear, images, 2)
    assert np.abs(found.maps - expected).mean() < 0.05 * np.abs(expected).mean()


def test_mirrored_copies_are_mirrored_back(linear: nn.Module, images: Tensor) -> None:
    found = explainers.create({"name": "smooth", "samples": 0, "flips": True}).explain(linear, images, 2)
    mirrored = contributions(linear, images.flip(-1), 2)[:, :, ::-1]
    assert np.allclose(found.maps, (contributions(linear, images, 2) + mirrored) / 2, atol=1e-5)


def test_smoothing_takes_any_method_with_what_it_needs(small: Classifier, images: Tensor) -> None:
    for name in ("grad-cam", "lrp"):
        method = explainers.create({"name": "smooth", "samples": 2, "explainer": {"name": name}})
        found = method.explain(small, images)
        assert found.valid.all()
        assert found.provenance["options"]["explainer"]["name"] == name


def test_smoothing_with_nothing_to_average_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'explainer.samples' must be at least 1 without 'flips', got 0"):
        explainers.create({"name": "smooth", "samples": 0})
