from __future__ import annotations

import math
import pickle
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import attrs
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from imgcls.core.dumping import spec_of
from imgcls.core.errors import ConfigError, PluginContractError, PluginError, WeightsError
from imgcls.models.base import Backbone, Classifier, Facts, backbones
from imgcls.models.head import Head
from imgcls.models.weights import read_weights

pytestmark = pytest.mark.usefixtures("one_thread")

RESNET: dict[str, Any] = {"name": "test_resnet", "pretrained": False}
SPECS: dict[str, tuple[Any, int]] = {
    "small-cnn": ({"name": "small-cnn", "base": 4, "depth": 3}, 16),
    "resnet": (RESNET, 64),
    "convnext": ({"name": "test_convnext", "pretrained": False}, 64),
    "vit": ({"name": "test_vit", "pretrained": False}, 32),
    "efficientnet": ({"name": "test_efficientnet", "pretrained": False}, 64),
    "swin": ({"name": "timm", "model": "swin_tiny_patch4_window7_224", "pretrained": False,
              "options": {"depths": [1, 1], "embed_dim": 24, "num_heads": [2, 2]}}, 56),
    "torchvision": ({"name": "torchvision/shufflenet_v2_x0_5", "pretrained": False}, 32),
    "torchvision-vit": ({"name": "torchvision/vit_b_32", "pretrained": False}, 64),
}  # fmt: skip


def built(spec: Any = None, num_outputs: int = 3, **options: Any) -> Classifier:
    return backbones.create(spec or RESNET).build(num_outputs, **{"image_size": (32, 32)} | options)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SPECS)
def test_classifier_gives_logits_and_its_facts_are_true(name: str, channels: int) -> None:
    spec, side = SPECS[name]
    model = built(spec, in_channels=channels, image_size=(side, side))
    images = torch.rand(2, channels, side, side)
    assert model.training
    assert model(images).shape == (2, 3)
    assert model.body(images).shape == (2, model.facts.num_features)
    assert len(model.facts.mean) == len(model.facts.std) == channels


@pytest.mark.parametrize("name", SPECS)
def test_target_layer_gives_a_map_of_the_layout(name: str) -> None:
    spec, side = SPECS[name]
    model, seen = built(spec, image_size=(side, side)).eval(), list[Tensor]()
    module = model.target_module()
    if name == "torchvision-vit":
        assert module is None
        return
    assert module is not None
    module.register_forward_hook(lambda _, __, output: seen.append(output))
    model(torch.rand(2, 3, side, side))
    shape = seen[0].shape
    places = {"NCHW": shape[2:], "NHWC": shape[1:-1], "NLC": (shape[1] - model.facts.prefix_tokens,)}
    assert shape[0] == 2
    assert math.isqrt(math.prod(places[model.facts.layout])) ** 2 == math.prod(places[model.facts.layout]) > 1


CAIT = {"depth": 1, "embed_dim": 16, "num_heads": 2, "depth_token_only": 1}


@pytest.mark.parametrize(
    ("model", "options", "size", "facts"),
    [
        ("cait_xxs24_224", CAIT, (64, 64), ("model.blocks.0.norm1", "NLC", 0)),  # its class token joins later
        ("mixer_s32_224", {}, (64, 64), ("maps", "NLC", 0)),  # tokens, though it is no transformer
        ("test_vit", {}, (32, 64), ("model.blocks.5.norm1", "NLC", 1)),
        ("test_vit", {}, (16, 16), (None, "NCHW", 0)),  # a single place is no map
        ("crossvit_tiny_240", {}, (240, 240), (None, "NCHW", 0)),  # two maps of two sizes
    ],
)
def test_layout_is_that_of_the_map(model: str, options: Any, size: tuple[int, int], facts: Any) -> None:
    found = built({"name": model, "pretrained": False, "options": options}, image_size=size).facts
    assert (found.target_layer, found.layout, found.prefix_tokens) == facts


@pytest.mark.parametrize("name", ["small-cnn", "resnet", "vit", "torchvision"])
def test_seed_decides_the_weights_and_leaves_global_chance_alone(name: str) -> None:
    spec, side = SPECS[name]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (weights_of(built(spec, image_size=(side, side), seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert same(one, two)
    assert not same(one, other)


def test_grey_network_answers_as_the_colour_network_does_on_grey(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), file)
    spec = {"name": "test_resnet", "weights": str(file)}
    grey, colour = (built(spec, in_channels=channels).eval() for channels in (1, 3))
    images = torch.rand(2, 1, 32, 32)
    assert torch.allclose(grey.body(images), colour.body(images.expand(-1, 3, -1, -1)), atol=1e-4)


def test_grey_torchvision_network_sums_its_first_convolution() -> None:
    spec = {"name": "torchvision/shufflenet_v2_x0_5", "pretrained": False}
    grey, colour = (built(spec, in_channels=channels, seed=3).body.eval() for channels in (1, 3))
    images = torch.rand(2, 1, 32, 32)
    assert torch.allclose(grey(images), colour(images.expand(-1, 3, -1, -1)), atol=1e-5)


def test_facts_of_colour_are_averaged_for_grey() -> None:
    facts = Facts(num_features=1, mean=(0.0, 0.3, 0.6), std=(0.1, 0.2, 0.3)).for_channels(1)
    assert facts.mean == pytest.approx((0.3,))
    assert facts.std == pytest.approx((0.2,))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_weights_of_a_file_are_loaded_without_the_old_head(tmp_path: Path, wrapper: str | None) -> None:
    given = timm.create_model("test_resnet", num_classes=7).state_dict()
    prefixed = {f"module.{name}": tensor for name, tensor in given.items()}
    torch.save({wrapper: prefixed, "epoch": 3} if wrapper else prefixed, tmp_path / "w.pth")
    loaded = built({"name": "test_resnet", "weights": str(tmp_path / "w.pth")}).body.state_dict()
    assert loaded
    assert all(torch.equal(tensor, given[name.removeprefix("model.")]) for name, tensor in loaded.items())


def test_torchvision_weights_of_a_file_are_loaded(tmp_path: Path) -> None:
    import torchvision

    given = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None).state_dict()
    save_file(given, tmp_path / "w.safetensors")
    body = built({"name": "torchvision/shufflenet_v2_x0_5", "weights": str(tmp_path / "w.safetensors")}).body
    assert all(torch.equal(tensor, given[name]) for name, tensor in body.state_dict().items())


def test_weights_are_not_read_where_a_checkpoint_follows() -> None:
    spec = {"name": "test_resnet", "weights": "nowhere.safetensors"}
    assert same(weights_of(built(spec, initial=False)), weights_of(built()))


def _missing(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.startswith("layer1.")}


def _reshaped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor[..., :1] if name == "layer1.0.conv1.weight" else tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_missing, r"with \d+ missing: 'layer1.*' and \d+ more$"),
        (_reshaped, r"with 1 of another shape: 'layer1\.0\.conv1\.weight'$"),
        (lambda weights: weights | {"odd": torch.zeros(1)}, "with 1 unknown: 'odd'$"),
    ],
)
def test_weights_that_do_not_fit_are_listed(tmp_path: Path, change: Any, message: str) -> None:
    torch.save(change(timm.create_model("test_resnet").state_dict()), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=rf"'weights' must fit the backbone, got '.*w\.pth' {message}"):
        built({"name": "test_resnet", "weights": str(tmp_path / "w.pth")})


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_pickle_in_a_weights_file_is_never_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": Evil(tmp_path / "run")}}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Evil(tmp_path / "run"), protocol=2))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(WeightsError, match="'weights' must name a file of tensors alone") as caught:
            read_weights(tmp_path / name)
        assert "weights_only" not in str(caught.value)  # torch would advise to run it
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.safetensors", None, r"'weights' must name an existing file, got '.*w\.safetensors'"),
        ("w.safetensors", b"no tensors", "'weights' must name an undamaged file"),
        ("w.pth", b"no tensors", "'weights' must name a file of tensors alone"),
        ("w.pth", b"", "'weights' must name a file of tensors alone"),
    ],
)
def test_files_without_weights_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / name)


def test_checkpoint_that_is_no_table_of_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="'weights' must name a file of tensors by name"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet81", r"'backbone\.model' must name a timm model, got 'resnet81'; did you mean .*'resnet18'"),
        ("small-cn", r"did you mean .*'small-cnn'"),
        ("torchvision/resnet81", r"'backbone\.model' must name a torchvision classifier, .* did you mean .*'resnet18'"),
        (
            {"name": "resnet18", "pretrain": True},
            r"'backbone\.pretrain' must be an option .*; did you mean 'pretrained'",
        ),
        ({"name": "resnet18", "model": "vgg11"}, r"'backbone\.model' must be left out beside the name 'resnet18'"),
        ({"name": "timm"}, r"'backbone\.model' must be given"),
        (
            {"name": "resnet18", "pretrained": True, "weights": "w.pth"},
            r"'backbone\.pretrained' must be left out when 'weights'",
        ),
        ({"name": "small-cnn", "depth": 0}, r"'backbone\.depth' must be a whole number of at least 1, got 0"),
        ({"name": "resnet18", "pretrained": "yes"}, r"'backbone\.pretrained' must be a bool, got 'yes'"),
        (3, "'backbone' must be a name, a mapping with a 'name' or a plugin, got 3"),
    ],
)
def test_wrong_specs_are_refused(spec: Any, message: str) -> None:
    with pytest.raises((ConfigError, PluginError), match=message):
        backbones.create(spec)


@pytest.mark.parametrize(
    ("spec", "size", "message"),
    [
        ({"name": "small-cnn", "depth": 6}, 16, "'depth' must be smaller for images of 16 pixels, got 6"),
        (RESNET | {"options": {"depth": 3}}, 32, r"'options' must suit 'test_resnet', got \{'depth': 3\}; .*'depth'"),
        (
            {"name": "torchvision/alexnet", "pretrained": False},
            32,
            "'image' must suit the backbone, got 32 x 32 pixels",
        ),
        ({"name": "torchvision/squeezenet1_1", "pretrained": False}, 64, "'backbone' must end in a linear layer"),
    ],
)
def test_networks_that_cannot_be_are_refused(spec: Any, size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(spec, image_size=(size, size))


def test_absent_pretrained_weights_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"pretrained weights of 'test_resnet' must .*give 'weights' a local file"):
        built("test_resnet")


def test_absent_torchvision_weights_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(WeightsError, match=r"weights of 'torchvision/resnet18' must .*URLError.*no network"):
        built("torchvision/resnet18")


def test_pretrained_inception_trains_without_auxiliary_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    whole = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=True).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: dict(whole))
    loaded = built("torchvision/googlenet", image_size=(64, 64))
    resumed = built("torchvision/googlenet", image_size=(64, 64), initial=False)
    resumed.load_state_dict(loaded.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(loaded.eval()(images), resumed.eval()(images))
    assert loaded.train()(images).shape == (2, 3)
    assert loaded.facts.mean == (0.5, 0.5, 0.5)


def test_spec_of_a_backbone_makes_it_again() -> None:
    for spec, _ in SPECS.values():
        backbone = backbones.create(spec)
        assert backbones.create(spec_of(backbone)) == backbone


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_head_has_its_depth_and_width(depth: int) -> None:
    layers = Head(depth=depth).build(8, 3)
    linear = [module for module in layers.modules() if isinstance(module, nn.Linear)]
    assert [module.in_features for module in linear] == [8, 4, 4][:depth]
    assert layers(torch.rand(2, 8)).shape == (2, 3)


def test_head_drops_in_training_only() -> None:
    layers = Head(dropout=0.5).build(1000, 1)
    features = torch.ones(1, 1000)
    assert not torch.equal(layers(features), layers(features))
    assert torch.equal(layers.eval()(features), layers(features))


@pytest.mark.parametrize("options", [{"depth": 0}, {"depth": 1.5}, {"dropout": 1}, {"dropout": -0.1}])
def test_wrong_heads_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"'{next(iter(options))}' must be"):
        Head(**options)


@final
@attrs.frozen(kw_only=True)
class Given(Backbone):
    body: nn.Module
    facts: Facts

    def make(self, *, in_channels: int, image_size: tuple[int, int], initial: bool) -> tuple[nn.Module, Facts]:
        return self.body, self.facts


@pytest.mark.parametrize(
    ("body", "facts", "message"),
    [
        (nn.Flatten(), Facts(num_features=7), r"body of Given must give features \(B, 7\), got \(2, 12\)"),
        (nn.Identity(), Facts(num_features=3), r"features \(B, 3\), got \(2, 3, 2, 2\)"),
        (
            nn.Flatten(),
            Facts(num_features=12, target_layer="maps"),
            "'target_layer' of Given must name a module, got 'maps'",
        ),
    ],
)
def test_wrong_plugins_are_caught(body: nn.Module, facts: Facts, message: str) -> None:
    with pytest.raises(PluginContractError, match=message):
        Given(body=body, facts=facts).build(2, image_size=(2, 2))


def test_hidden_layers_are_those_of_the_reference_systems() -> None:
    layers = Head(depth=3, dropout=0.5).build(8, 1)
    kinds = [type(layer) for layer in layers.children()]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout] * 2 + [nn.Linear]
    assert [type(layer) for layer in Head(dropout=0.2).build(8, 1).children()] == [nn.Dropout, nn.Linear]


def test_head_has_the_width_it_is_given() -> None:
    layers = Head(depth=3, width=5).build(8, 2)
    sizes = [(layer.in_features, layer.out_features) for layer in layers.children() if isinstance(layer, nn.Linear)]
    assert sizes == [(8, 5), (5, 5), (5, 2)]
    with pytest.raises(ConfigError, match="'width' must be left out for a head without hidden layers, got 5"):
        Head(width=5)


def test_prior_shift_moves_predictions_and_not_training() -> None:
    model, images = built("small-cnn", num_outputs=3), torch.rand(2, 3, 32, 32)
    trained, before = model(images), model.eval()(images)
    shift = torch.tensor([0.5, -1.0, 2.0])
    model.prior_shift.copy_(shift)
    assert torch.equal(model(images), before + shift)
    again = built("small-cnn", num_outputs=3)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(images), before + shift)
    assert torch.equal(model.train()(images), trained)
