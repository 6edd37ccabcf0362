from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from imgcls import backbones, explainers, samplers, search_backends, splitters, trackers
from imgcls.core.discovery import plugins
from imgcls.core.plugins import Registry
from imgcls.testing import (
    check_backbone,
    check_explainer,
    check_sampler,
    check_search_backend,
    check_splitter,
    check_tracker,
)

pytestmark = pytest.mark.usefixtures("one_thread")

#: The options that some plugins need, and small networks for the kits.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "small-cnn": {"base": 4, "depth": 3},
    "timm": {"model": "test_efficientnet", "pretrained": False},
    "torchvision": {"model": "shufflenet_v2_x0_5", "pretrained": False},
    "wandb": {"mode": "offline", "model": True},
    "integrated-gradients": {"steps": 2},
    "occlusion": {"window": 0.5},
    "comet": {"mode": "offline", "model": True},
}


def registered(registry: Registry[Any]) -> list[Any]:
    names = [plugin.name for plugin in plugins(registry.group) if plugin.state == "ok"]
    return [pytest.param({"name": name, **OPTIONS.get(name, {})}, id=name) for name in names]


def conforms(registry: Registry[Any], spec: Mapping[str, Any], kit: Callable[[Any], None]) -> None:
    kit(registry.create(spec))


@pytest.mark.parametrize("spec", registered(backbones))
def test_backbones_conform(spec: Mapping[str, Any]) -> None:
    conforms(backbones, spec, check_backbone)


@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_convnext"])
def test_networks_of_several_families_conform(model: str) -> None:
    check_backbone(backbones.create({"name": "timm", "model": model, "pretrained": False}))


@pytest.mark.parametrize("spec", registered(splitters))
def test_splitters_conform(spec: Mapping[str, Any]) -> None:
    conforms(splitters, spec, check_splitter)


@pytest.mark.parametrize("spec", registered(samplers))
def test_samplers_conform(spec: Mapping[str, Any]) -> None:
    conforms(samplers, spec, check_sampler)


@pytest.mark.parametrize("spec", registered(search_backends))
def test_search_backends_conform(spec: Mapping[str, Any]) -> None:
    conforms(search_backends, spec, check_search_backend)


@pytest.mark.parametrize("spec", registered(explainers))
def test_explainers_conform(spec: Mapping[str, Any]) -> None:
    conforms(explainers, spec, check_explainer)


@pytest.mark.parametrize("spec", registered(trackers))
def test_trackers_conform(spec: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = trackers.get(spec["name"]).package
    if package:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)  # where MLflow keeps its database if nothing else is said
    conforms(trackers, spec, check_tracker)
