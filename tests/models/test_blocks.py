from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from tests.models.families import FAMILIES, build
from torch import nn

from imgcls.core.errors import ConfigError
from imgcls.models.base import Classifier
from imgcls.models.blocks import blocks, match, param_depths
from imgcls.models.freezing import freeze, set_modes
from imgcls.models.head import Head
from imgcls.models.module import ModuleBackbone

pytestmark = pytest.mark.usefixtures("one_thread")

VARIANTS = [(name, cut) for name in FAMILIES for cut in (False, True)]


def variant(name: str, *, cut: bool) -> Classifier:
    return build(name, cut=FAMILIES[name][2] if cut else None)


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(("name", "cut"), VARIANTS)
def test_every_weight_is_in_one_block_and_depths_rise_with_the_blocks(name: str, cut: bool) -> None:
    model = variant(name, cut=cut)
    found, depths = blocks(model), param_depths(model)
    names = [parameter for block in found for parameter in block.parameters]
    assert sorted(names) == sorted(f"body.{key}" for key, _ in model.body.named_parameters())
    assert len(found) > 1
    limits = [
        (min(depths[key] for key in block.parameters), max(depths[key] for key in block.parameters)) for block in found
    ]
    assert limits[0][0] == 0
    assert all(before[1] <= after[0] for before, after in pairwise(limits))
    heads = {depths[key] for key, _ in model.named_parameters() if key.startswith("head.")}
    assert heads == {limits[-1][1] + 1}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet", ["conv1, bn1", "layer1", "layer2", "layer3", "layer4"]),
        ("tv-mobilenet", [*(f"features.{number}" for number in range(13)), "classifier"]),
        ("vit", ["cls_token, pos_embed, patch_embed", *(f"blocks.{number}" for number in range(5)), "blocks.5, norm"]),
        ("convnext", ["stem", "stages.0", "stages.1", "stages.2", "stages.3, head"]),
        ("small-cnn", ["blocks.0", "blocks.2", "blocks.4"]),
    ],
)
def test_blocks_are_stages_of_convolutions_and_layers_of_transformers(name: str, expected: list[str]) -> None:
    assert [block.name for block in blocks(build(name))] == expected


def test_blocks_of_a_module_are_its_children_with_their_norms() -> None:
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)),
        nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3),
    )  # fmt: skip
    model = ModuleBackbone(module=net).build(2, image_size=(16, 16))
    assert [block.parameters[0] for block in blocks(model)] == [
        "body.model.0.0.weight",
        "body.model.1.weight",
        "body.model.3.weight",
    ]
    given = ModuleBackbone(module=net, blocks=("0", "1")).build(2, image_size=(16, 16))
    assert [len(block.parameters) for block in blocks(given)] == [6, 6]


@pytest.mark.parametrize(("name", "cut"), VARIANTS)
def test_last_blocks_train_with_the_head(name: str, cut: bool) -> None:
    model = variant(name, cut=cut)
    heads = {key for key, _ in model.named_parameters() if key.startswith("head.")}
    freeze(model, "head")
    assert trained(model) == heads
    freeze(model, 2)
    assert trained(model) == heads.union(*(block.parameters for block in blocks(model)[-2:]))
    freeze(model, "all")
    assert trained(model) == {key for key, _ in model.named_parameters()}


@pytest.mark.parametrize("pattern", ["layer4", "layer4.*", "body.layer4.*", "body.model.layer4", "layer[4]"])
def test_patterns_train_what_they_match(pattern: str) -> None:
    model = build("resnet")
    freeze(model, pattern)
    assert trained(model) == {
        key for key, _ in model.named_parameters() if ".layer4." in key or key.startswith("head.")
    }


def leaves(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, part) for name, part in module.named_modules() if not list(part.children()))


@pytest.mark.parametrize(
    ("name", "train"), [("resnet", 1), ("resnet", "head"), ("vit", 2), ("convnext", 2), ("tv-mobilenet", 3)]
)
def test_what_is_frozen_keeps_its_statistics_and_drops_nothing(name: str, train: str | int) -> None:
    model = build(name, head=Head(depth=2, dropout=0.5))
    for part in model.body.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.5
    freeze(model, train)
    model.eval()
    set_modes(model)
    for _, part in leaves(model.body):
        needs = [parameter.requires_grad for parameter in part.parameters()]
        assert not needs or part.training == any(needs)
    assert model.head.training
    norms = [part for part in model.body.modules() if isinstance(part, nn.BatchNorm2d) and not part.training]
    means = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    side = FAMILIES[name][1]
    model(torch.rand(4, 3, side, side))
    for norm, mean in zip(norms, means, strict=True):
        assert norm.running_mean is not None
        assert torch.equal(norm.running_mean, mean)


class Droppy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.stem_drop = nn.Dropout(0.5)
        self.last = nn.Conv2d(4, 4, 3)
        self.last_drop = nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.last_drop(self.last(self.stem_drop(self.stem(images))))
        return maps


def test_dropout_follows_the_layer_before_it() -> None:
    model = ModuleBackbone(module=Droppy()).build(2, image_size=(8, 8))
    freeze(model, "last")
    modes = {name.removeprefix("model."): part.training for name, part in leaves(model.body)}
    assert modes == {"stem": False, "stem_drop": False, "last": True, "last_drop": True}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (6, "'train' must be from 1 to the number of blocks, 5, got 6; 'all' trains everything"),
        (0, "'train' must be from 1 to the number of blocks, 5, got 0"),
        ("layr4", "'train' must match parameters of the backbone, got 'layr4'; did you mean 'layer4"),
    ],
)
def test_what_cannot_train_is_refused(train: str | int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        freeze(build("resnet"), train)


def test_matches_are_names_in_the_classifier() -> None:
    assert match(build("resnet"), "bn1") == ("body.model.bn1.weight", "body.model.bn1.bias")
