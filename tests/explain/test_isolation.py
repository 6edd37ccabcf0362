import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from imgcls.core.errors import ConfigError, UnsupportedModelError
from imgcls.explain.base import Ensemble, explainers
from imgcls.explain.isolation import isolated, unwrapped
from imgcls.models.base import Classifier

METHODS = ("grad-cam", "lrp", "input-times-gradient")


@pytest.mark.parametrize("wrap", [torch.compile, DataParallel, AveragedModel])
@pytest.mark.parametrize("name", METHODS)
def test_wrappers_are_taken_off(name: str, wrap: Any, small: Classifier, images: Tensor) -> None:
    expected = explainers.create(name).explain(small, images)
    assert np.array_equal(explainers.create(name).explain(wrap(copy.deepcopy(small)), images).maps, expected.maps)


def test_a_model_that_is_distributed_is_taken_out(small: Classifier, images: Tensor, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = DistributedDataParallel(copy.deepcopy(small))
        for name in METHODS:
            expected = explainers.create(name).explain(small, images)
            assert np.array_equal(explainers.create(name).explain(model, images).maps, expected.maps)
    finally:
        torch.distributed.destroy_process_group()


def test_compiled_parts_are_taken_off_the_copy_only(small: Classifier, images: Tensor) -> None:
    model = copy.deepcopy(small)
    compiled: Any = torch.compile(model.body)
    model.body = compiled
    expected = explainers.create("lrp").explain(small, images)
    assert np.array_equal(explainers.create("lrp").explain(model, images).maps, expected.maps)
    assert model.body is compiled


def test_wrappers_of_wrappers_are_taken_off(small: Classifier) -> None:
    wrapped: Any = torch.compile(DataParallel(small))
    assert unwrapped(wrapped) is small


@pytest.mark.filterwarnings("ignore:.*jit.*:FutureWarning", "ignore:.*jit.*:DeprecationWarning")
def test_scripts_are_refused(images: Tensor) -> None:
    script = torch.jit.trace(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), images)  # type: ignore[no-untyped-call]
    with pytest.raises(UnsupportedModelError, match="must be a module in Python, got a script"):
        explainers.create("lrp").explain(script, images)


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(768, 2)
        self.cache: dict[str, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        if "scale" not in self.cache:
            self.cache["scale"] = self.linear.weight.sum()
        logits: Tensor = self.linear(images.flatten(1)) * self.cache["scale"]
        return logits


def test_what_a_model_caches_in_a_graph_is_copied(images: Tensor) -> None:
    model = Caching()
    logits = model(images).detach()
    assert torch.allclose(isolated(model)(images), logits)
    assert isolated(model, torch.float64).cache["scale"].dtype == torch.float64  # type: ignore[index]


def members(build: Any) -> list[Classifier]:
    models = [build({"name": "small-cnn", "base": 4, "depth": 2}, size=16) for _ in range(2)]
    with torch.no_grad():
        for number, model in enumerate(models):
            for parameter in model.parameters():
                parameter.mul_(1 + number)
    return models


@pytest.mark.parametrize("name", METHODS)
def test_an_ensemble_gets_the_mean_of_the_maps(name: str, build: Any, images: Tensor) -> None:
    models = members(build)
    found = explainers.create(name).explain(Ensemble(models), images)
    logits = np.mean([explainers.create(name).explain(model, images).logits for model in models], axis=0)
    assert np.allclose(found.logits, logits, atol=1e-6)
    assert found.target.tolist() == logits.argmax(axis=1).tolist()
    each = [explainers.create(name).explain(model, images, found.target).maps for model in models]
    assert np.allclose(found.maps, np.mean(each, axis=0), atol=1e-6)


def test_an_ensemble_conserves_what_its_members_do(build: Any, images: Tensor) -> None:
    found = explainers.create("lrp").explain(Ensemble(members(build)), images)
    assert found.conserved == pytest.approx(1, abs=1e-3)


def test_an_ensemble_has_members() -> None:
    with pytest.raises(ConfigError, match="'members' must hold models"):
        Ensemble([])
