import pytest
import timm
import torch
from tests.models.families import FAMILIES, build
from typer.testing import CliRunner

from imgcls.cli import app
from imgcls.core.errors import ConfigError
from imgcls.models.catalogue import known_backbones
from imgcls.models.summary import summary

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("cut", [False, True])
def test_blocks_add_up_and_cuts_give_the_maps_they_promise(name: str, cut: bool) -> None:
    side = FAMILIES[name][1]
    model = build(name, cut=FAMILIES[name][2] if cut else None)
    found = summary(model, image_size=(side, side), depth=1)
    assert sum(row.parameters for row in found.blocks) == found.parameters
    assert [row.last for row in found.blocks] == [*range(len(found.blocks), 0, -1)]
    assert found.layers
    assert model.training
    last = found.cuts[-1]
    short = build(name, cut=last.name)
    assert (short.facts.num_features, short.facts.layout) == (last.channels, last.layout)


def test_cuts_of_a_known_network_are_where_timm_takes_features() -> None:
    features = timm.create_model("test_resnet", features_only=True).feature_info
    found = summary(build("resnet"), image_size=(64, 64))
    assert [(place.stride, place.name, place.channels) for place in found.cuts] == list(
        zip(features.reduction(), features.module_name(), features.channels(), strict=True)
    )
    assert [row.shape for row in found.blocks][2:] == [(1, place.channels, *place.size) for place in found.cuts[2:]]


def test_names_are_found_by_pattern() -> None:
    assert known_backbones("resnet1?") == [
        name for name in known_backbones() if len(name) == 8 and name[:7] == "resnet1"
    ]
    assert "torchvision/resnet18" in known_backbones("resnet18")
    assert known_backbones()[0] == "small-cnn"
    with pytest.raises(
        ConfigError, match=r"'pattern' must match a backbone, got 'resnet1188'; did you mean .*'resnet18'"
    ):
        known_backbones("resnet1188")


def test_command_line_shows_blocks_cuts_and_layers() -> None:
    before = torch.get_rng_state()
    shown = CliRunner().invoke(app, ["backbones", "show", "test_resnet", "--size", "64", "--depth", "1"]).output
    assert torch.equal(before, torch.get_rng_state())
    for text in ("layer4", "stride16  layer3", "Stage(train=", "BatchNorm2d", "0.500, 0.500, 0.500"):
        assert text in shown
    assert "resnet18" in CliRunner().invoke(app, ["backbones", "list", "resnet18"]).output
