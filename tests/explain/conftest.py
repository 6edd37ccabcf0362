"""Small models with statistics as after some training, so that biases matter."""

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
import torch
from torch import Tensor, nn

from imgcls.models.base import Classifier, backbones


class Build(Protocol):
    def __call__(self, spec: Any, *, outputs: int = 5, channels: int = 3, size: int = 32) -> Classifier: ...


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def build() -> Build:
    def make(spec: Any, *, outputs: int = 5, channels: int = 3, size: int = 32) -> Classifier:
        model = backbones.create(spec).build(outputs, in_channels=channels, image_size=(size, size))
        rng = torch.Generator().manual_seed(1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=rng)
                nn.init.normal_(module.bias, 0, 0.2, generator=rng)
        with torch.no_grad():
            for _ in range(3):
                model(torch.randn(8, channels, size, size, generator=rng))
        return model.eval()

    return make


@pytest.fixture(scope="session")
def small(build: Build) -> Classifier:
    return build({"name": "small-cnn", "base": 8, "depth": 3}, size=16)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
