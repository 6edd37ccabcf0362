import pickle
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from imgcls.core.errors import ConfigError, WeightsError
from imgcls.models.base import Classifier, backbones
from imgcls.runtime.checkpoints import Checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

LIBRARIES = ["test_resnet", "torchvision/shufflenet_v2_x0_5"]


def built(name: str = "test_resnet", *, channels: int = 3, **spec: Any) -> Classifier:
    given = {"name": name, **({} if "weights" in spec else {"pretrained": False}), **spec}
    return backbones.create(given).build(3, in_channels=channels, image_size=(32, 32))


def state_of(name: str, classes: int = 7) -> dict[str, Tensor]:
    library, _, model = name.rpartition("/")
    if library:
        return dict(torchvision.models.get_model(model, weights=None, num_classes=classes).state_dict())
    return dict(timm.create_model(model, num_classes=classes).state_dict())


def saved(folder: Path, state: dict[str, Tensor]) -> str:
    save_file(state, folder / "w.safetensors")
    return str(folder / "w.safetensors")


@pytest.mark.parametrize("name", LIBRARIES)
def test_weights_with_another_number_of_classes_are_loaded(tmp_path: Path, name: str) -> None:
    state = state_of(name)
    model = built(name, weights=saved(tmp_path, state))
    assert model.facts.unmatched is None
    assert all(torch.equal(v, state[k.removeprefix("model.")]) for k, v in model.body.state_dict().items())


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_does_not_fit_is_left_out_and_reported(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")
    state = state_of(name)
    first, second = [key for key in state if state[key].ndim == 4][:2]
    del state[first]
    state[second] = state[second][..., :1].repeat(1, 1, 1, 5)
    file = saved(tmp_path, state | {"odd": torch.zeros(1)})
    with pytest.raises(
        WeightsError, match=f"with 1 missing: '{first}'; 1 unknown: 'odd'; 1 of another shape: '{second}'"
    ):
        built(name, weights=file)
    left = built(name, weights=file, strict=False).facts.unmatched
    assert left is not None
    assert (left.missing, left.unknown, left.reshaped) == ((first,), ("odd",), (second,))
    assert "left out, since they do not fit: 1 missing" in capsys.readouterr().err


def test_weights_of_which_nothing_fits_are_refused_in_any_case(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"'weights' must fit the backbone"):
        built(weights=saved(tmp_path, {"odd": torch.zeros(1)}), strict=False)


def test_strict_without_a_file_has_no_effect_and_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'backbone.strict' must be left out without 'weights', got False"):
        backbones.create({"name": "test_resnet", "strict": False})


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("source", [1, 3])
def test_colours_and_grey_exchange_weights(tmp_path: Path, name: str, source: int) -> None:
    given = built(name, channels=source)
    save_checkpoint(tmp_path, Checkpoint(weights=dict(given.state_dict()), facts={"step": 1}))
    other = built(name, channels=4 - source, weights=str(tmp_path)).eval()
    grey = torch.rand(2, 1, 32, 32)
    expected = given.eval().body(grey.expand(-1, source, -1, -1))
    assert torch.allclose(other.body(grey.expand(-1, 4 - source, -1, -1)), expected, atol=1e-4)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize(("source", "target"), [(None, None), (None, "stride8"), ("stride8", "stride8")])
def test_checkpoint_of_a_run_gives_its_backbone(
    tmp_path: Path, name: str, source: str | None, target: str | None
) -> None:
    given = built(name, cut=source).state_dict()
    save_checkpoint(tmp_path, Checkpoint(weights={**given, "head.0.bias": torch.full((3,), 9.0)}, facts={"step": 5}))
    model = built(name, cut=target, weights=str(tmp_path))
    short = {key.removeprefix("body.").removeprefix("model."): value for key, value in given.items()}
    assert all(torch.equal(v, short[k.removeprefix("model.")]) for k, v in model.body.state_dict().items())
    assert not torch.equal(model.head.state_dict()["0.bias"], torch.full((3,), 9.0))


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Checkpoint(weights=dict(built().state_dict()), facts={"step": 1}))
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsError, match=r"'weights' must name an undamaged checkpoint"):
        built(weights=str(tmp_path))


def test_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"must name a file or a run's checkpoint, "):
        built(weights=str(tmp_path))


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", LIBRARIES)
def test_malicious_weights_of_a_backbone_are_never_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Evil(tmp_path / "run")}, protocol=2))
    with pytest.raises(WeightsError, match=r"'weights' must name a file of tensors alone"):
        built(name, weights=str(tmp_path / "w.pth"))
    assert not (tmp_path / "run").exists()


def test_no_network_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    started = time.monotonic()
    with pytest.raises(WeightsError, match=r"pretrained weights of 'test_resnet' must be downloadable or in the cache"):
        backbones.create("test_resnet").build(2, image_size=(32, 32))
    assert time.monotonic() - started < 15
