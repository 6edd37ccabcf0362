from typing import Any

import pytest
import timm
import torch
from tests.models.families import FAMILIES, build
from torch import Tensor, nn

from imgcls.core.errors import ConfigError
from imgcls.models.base import Classifier, backbones
from imgcls.models.head import Head

pytestmark = pytest.mark.usefixtures("one_thread")


def maps_of(model: Classifier, images: Tensor) -> Tensor:
    """The maps as (B, places, channels), whatever their layout."""
    found: list[Tensor] = []
    layer = model.target_module()
    assert layer is not None
    handle = layer.register_forward_hook(lambda _, __, output: found.append(output))
    model(images)
    handle.remove()
    flat = found[0].flatten(2).transpose(1, 2) if model.facts.layout == "NCHW" else found[0].flatten(1, -2)
    return flat[:, model.facts.prefix_tokens :]


def images(name: str) -> Tensor:
    side = FAMILIES[name][1]
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_cut_network_gives_the_maps_of_the_whole_one_and_every_weight_trains(name: str) -> None:
    _, _, cut, (channels, side, layout) = FAMILIES[name]
    whole, short = build(name).eval(), build(name, cut=cut).eval()
    assert (short.facts.num_features, short.facts.layout) == (channels, layout)
    with torch.no_grad():
        maps = maps_of(short, images(name))
    assert maps.shape == (2, side * side, channels)
    weights = {key.removeprefix("body.").replace("model.", ""): value for key, value in whole.state_dict().items()}
    for key, value in short.body.state_dict().items():
        assert torch.equal(value, weights[key.removeprefix("model.")])
    short.train()(images(name)).square().sum().backward()
    assert not [key for key, parameter in short.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize(
    ("name", "model"), [("resnet", "test_resnet"), ("mobilenetv2", "mobilenetv2_050"), ("regnet", "regnety_002")]
)
@pytest.mark.parametrize("stride", [4, 8, 16])
def test_strides_are_where_timm_takes_features(name: str, model: str, stride: int) -> None:
    features = timm.create_model(model, features_only=True).eval()
    number = features.feature_info.reduction().index(stride)
    short = build(name, cut=f"stride{stride}").eval()
    short.body.model.load_state_dict(  # type: ignore[union-attr]
        {key: value for key, value in timm_names(features).items() if key in short.body.model.state_dict()}  # type: ignore[union-attr]
    )
    with torch.no_grad():
        expected = features(images(name))[number].mean(dim=(2, 3))
        assert torch.allclose(short.body(images(name)), expected, atol=1e-5)


def timm_names(features: nn.Module) -> dict[str, Tensor]:
    """`FeatureListNet` flattens `blocks.0` to `blocks_0`."""
    return {key.replace("blocks_", "blocks."): value for key, value in features.state_dict().items()}


@pytest.mark.parametrize("name", [*FAMILIES])
def test_linear_head_on_pooled_maps_is_the_mean_of_its_class_activation_map(name: str) -> None:
    model = build(name, head=Head(pool="avg")).eval()
    (linear,) = model.head.children()
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        cam = maps_of(model, images(name)) @ linear.weight.T
        assert torch.allclose(cam.mean(dim=1) + linear.bias, model(images(name)), atol=1e-4)


@pytest.mark.parametrize("name", ["small-cnn", "vit", "swin"])
@pytest.mark.parametrize("cut", [None, "cut"])
def test_pools_are_the_largest_value_and_its_mean_with_the_average(name: str, cut: str | None) -> None:
    place = FAMILIES[name][2] if cut else None
    average, highest, both = (build(name, cut=place, head=Head(pool=kind)).eval() for kind in ("avg", "max", "avgmax"))
    with torch.no_grad():
        found = highest.body(images(name))
        assert torch.allclose(found, maps_of(highest, images(name)).amax(dim=1))
        assert torch.allclose(both.body(images(name)), (found + average.body(images(name))) / 2, atol=1e-6)


def test_cut_network_has_fewer_weights_than_the_reference_systems_say() -> None:
    model = backbones.create(
        {"name": "torchvision/mobilenet_v3_large", "cut": "features.13.block.0", "pretrained": False}
    )
    body = model.build(1, image_size=(64, 64)).body
    assert sum(parameter.numel() for parameter in body.parameters()) == pytest.approx(0.87e6, rel=0.01)


@pytest.mark.parametrize("name", ["resnet", "vit", "tv-shufflenet"])
def test_grey_cut_network_trains_from_its_own_state(name: str) -> None:
    cut = FAMILIES[name][2]
    one, other = (build(name, cut=cut, in_channels=1, seed=seed) for seed in (1, 2))
    other.load_state_dict(one.state_dict())
    grey = images(name)[:, :1]
    assert torch.equal(one.eval()(grey), other.eval()(grey))


def test_cut_network_compiles_whole() -> None:
    torch._dynamo.reset()
    model = build("resnet", cut="stride8").eval()
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(images("resnet")), model(images("resnet")), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "cut", "message"),
    [
        ("resnet", "layr3", "be a stride or name a module, got 'layr3'; did you mean 'layer3'"),
        ("resnet", "stride64", "be a stride that the network has, got 'stride64'; there are 'stride2', .*'stride32'"),
        ("resnet", "global_pool", r"have a module that gives one map an image, .* gives one of shape \(1, 96\)"),
        ("vit", "blocks.1.drop_path3", "be a stride or name a module, .* did you mean 'blocks.1.drop_path"),
    ],
)  # fmt: skip
def test_cuts_that_cannot_be_are_refused(name: str, cut: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"'cut' must {message}"):
        build(name, cut=cut)


def test_cut_beside_another_branch_is_refused() -> None:
    crossvit = backbones.create({"name": "crossvit_tiny_240", "pretrained": False, "cut": "blocks.1.blocks.0.0"})
    with pytest.raises(ConfigError, match=r"'cut' must leave a network of one line, got 'blocks.1.blocks.0.0'"):
        crossvit.build(2, image_size=(240, 240))


def test_pool_of_a_network_without_one_map_is_refused() -> None:
    crossvit = backbones.create({"name": "crossvit_tiny_240", "pretrained": False})
    with pytest.raises(ConfigError, match=r"'head.pool' must have a module that gives one map an image"):
        crossvit.build(2, image_size=(240, 240), head=Head(pool="avg"))
