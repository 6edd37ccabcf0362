import contextlib
from pathlib import Path

import pytest
import torch
from torch import nn

from imgcls.core.errors import ConfigError
from imgcls.runtime import device
from imgcls.runtime.device import Runtime, choose_runtime, kept_runtimes, measured_once, pick_device

IMAGES = torch.zeros(2, 3, 8, 8)


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 2))


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:x", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'device' must be .*got '{name}'"):
        pick_device(name)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_of_processes_that_train_together_each_has_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device(name) == "cuda:3"


def test_the_cpu_can_be_asked_for() -> None:
    assert pick_device("cpu") == "cpu"


def test_auto_takes_a_device_that_works() -> None:
    assert torch.zeros(1, device=pick_device("auto")).item() == 0


@pytest.mark.parametrize(("precision", "channels_last"), [("fp32", False), ("bf16", True)])
def test_a_fixed_precision_is_kept_and_not_measured(
    precision: str, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_seconds", lambda *_: pytest.fail("measured"))
    found = choose_runtime(model(), IMAGES, device="cpu", precision=precision)
    assert found == Runtime(device="cpu", precision=precision, channels_last=channels_last)


@pytest.mark.parametrize(("seconds", "precision"), [(1.0, "fp32"), (0.9, "fp32"), (0.8, "bf16")])
def test_auto_takes_bf16_only_for_a_clear_gain(seconds: float, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"fp32": 1.0, "bf16": seconds}
    monkeypatch.setattr(device, "_seconds", lambda _, __, runtime: times[runtime.precision])
    assert choose_runtime(model(), IMAGES, device="cpu", precision="auto").precision == precision


def test_measuring_leaves_model_and_chance_alone() -> None:
    net = model().eval()
    before, chance = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    choose_runtime(net, IMAGES, device="cpu", precision="auto")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), chance)


def test_autocast_is_on_for_bf16_alone() -> None:
    assert isinstance(Runtime().autocast(), contextlib.nullcontext)
    with Runtime(precision="bf16").autocast():
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.bfloat16


def test_the_exact_runtime_differs_in_precision_alone() -> None:
    mixed = Runtime(precision="bf16", channels_last=True)
    assert mixed.exact() == Runtime(channels_last=True)


def test_weights_lie_in_memory_as_the_runtime_says() -> None:
    placed = Runtime(channels_last=True).place(nn.Conv2d(3, 4, 3))
    assert next(placed.parameters()).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("compiled", [True, False])
def test_what_was_chosen_is_said(
    compiled: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device, "_seconds", lambda *_: 1.0)
    with caplog.at_level("INFO"):
        choose_runtime(model(), IMAGES, device="cpu", precision="auto", compiled=compiled)
    assert caplog.messages == ["Runtime: cpu, fp32, channels first" + ", compiled" * compiled]


def test_what_is_alike_is_measured_once_where_it_is_kept(tmp_path: Path) -> None:
    measured: list[str] = []

    def runtime(key: str) -> Runtime:
        def measure() -> Runtime:
            measured.append(key)
            return Runtime(precision="bf16", threads=7)

        return measured_once(key, measure)

    for _ in range(2):  # as two processes, one after the other
        with kept_runtimes(tmp_path / "runtime.json"):
            assert [runtime(key) for key in "aba"] == [Runtime(precision="bf16", threads=7)] * 3
    assert measured == ["a", "b"]
    runtime("a")
    assert measured == ["a", "b", "a"]
