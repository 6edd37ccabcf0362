"""Device, precision and memory layout, chosen by a short measurement where the user leaves it open."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError
from imgcls.core.folders import hold, read_json, write_json
from imgcls.core.progress import say

__all__ = ["PRECISIONS", "Runtime", "choose_runtime", "deterministic", "kept_runtimes", "measured_once", "pick_device"]

#: Kinds of devices that hold numbers and train.
_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})

PRECISIONS = ("auto", "fp32", "bf16")

#: bf16 must be this much faster than fp32 to be worth its rounding, and another memory layout this much
#: to be worth choosing: a choice by a hair would change from run to run.
_GAIN, _LAYOUT_GAIN = 1.15, 1.05


@attrs.frozen(kw_only=True)
class Runtime:
    """Where and how a network runs.

    Attributes:
        device: A torch device, such as `cpu` or `cuda:0`.
        precision: `fp32`, or `bf16` for mixed precision (weights stay in fp32).
        channels_last: Whether images and weights lie in memory channel by channel within a pixel.
        compiled: Whether networks are compiled.
        threads: How many threads torch uses on the CPU; results depend on it in the last digits.
    """

    device: str = "cpu"
    precision: str = "fp32"
    channels_last: bool = False
    compiled: bool = False
    threads: int = attrs.field(factory=torch.get_num_threads)

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "channels first"
        return ", ".join([self.device, self.precision, layout, *(["compiled"] if self.compiled else [])])

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Make the context for forward passes.

        Returns:
            torch's autocast for `bf16`, an empty context for `fp32`.
        """
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, in the memory layout.

        Args:
            model: The model, which is changed.

        Returns:
            The model.
        """
        if self.compiled:
            model.compile()  # in place, so that names of weights stay as they are
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        # torch's stubs lack the signature with a memory format.
        return model.to(device=self.device, memory_format=layout)  # type: ignore[call-overload]

    def exact(self) -> Runtime:
        """Give the same device with full precision, for numbers that are reported.

        Returns:
            The runtime with `fp32`.
        """
        return attrs.evolve(self, precision="fp32")


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Let torch use no operation that may give other bits each time.

    Args:
        wanted: Whether to; if not, nothing changes.

    Yields:
        Nothing.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not deterministic without it
        torch.use_deterministic_algorithms(mode=True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def pick_device(name: str) -> str:
    """Decide the device.

    Args:
        name: `auto` takes CUDA, as `cuda` does, else Apple's MPS, else the CPU; anything else is torch's name.

    Returns:
        The device.

    Raises:
        ConfigError: if there is no such device.
    """
    if name in {"auto", "cuda"}:
        if torch.cuda.is_available():  # of several processes on a machine each has its own
            return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
        if name == "auto":
            return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        if torch.empty(0, device=name).device.type not in _DEVICES:
            raise ConfigError(f"'device' must be one of {sorted(_DEVICES)} with a number, got {name!r}")
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"'device' must be 'auto' or a device of this machine, got {name!r}; {error}") from None
    return name


def choose_runtime(
    model: nn.Module, images: Tensor, *, device: str, precision: str, compiled: bool | str = False
) -> Runtime:
    """Decide how a model trains, by timing a few steps where `precision` is `auto`.

    Args:
        model: The model; a copy is measured.
        images: A small batch of images (B, C, H, W) as they will come.
        device: As for `pick_device`.
        precision: `fp32`, `bf16` or `auto`.
        compiled: Whether to compile; `auto` measures that too, on a GPU.

    Returns:
        The runtime of that precision; for `auto` the fastest, in full precision unless bf16
        gains at least 15 %.
    """
    place = pick_device(device)
    plain = Runtime(device=place)
    layouts = [plain, attrs.evolve(plain, channels_last=True)]
    mixed = attrs.evolve(plain, precision="bf16", channels_last=True)
    if precision != "auto":  # nothing is measured, so that nothing depends on the clock
        chosen = mixed if precision == "bf16" else plain
        return attrs.evolve(chosen, compiled=compiled is True)
    if place != "mps":  # mixed precision on MPS is not settled in torch
        layouts.append(mixed)
    with torch.random.fork_rng(devices=[place] if place.startswith("cuda") else []):  # dropout draws
        seconds = {runtime: _seconds(model, images, runtime) for runtime in layouts}
    best = min(layouts, key=lambda runtime: seconds[runtime] * _handicap(runtime))
    if compiled is True or (compiled == "auto" and _gains(model, images, best)):
        best = attrs.evolve(best, compiled=True)
    say(f"Runtime: {best}")
    return best


#: Where runtimes that were measured are kept for others; None where each is measured anew.
_kept: contextvars.ContextVar[Path | None] = contextvars.ContextVar("_kept", default=None)


@contextlib.contextmanager
def kept_runtimes(path: Path) -> Iterator[None]:
    """Keep what the block measures in a file, so that what is alike is measured once, also by several processes.

    Args:
        path: The JSON file.

    Yields:
        Nothing.
    """
    token = _kept.set(path)
    try:
        yield
    finally:
        _kept.reset(token)


def measured_once(key: str, measure: Callable[[], Runtime]) -> Runtime:
    """Take the runtime that was measured before, if any is kept.

    Args:
        key: What the measurement depends on.
        measure: Measures; meanwhile other processes that share the file wait.

    Returns:
        The runtime, on the device and with the threads of whoever measured it.
    """
    path = _kept.get()
    if path is None:
        return measure()
    with hold(path.with_name(f".{path.name}.lock")):
        known = read_json(path) if path.exists() else {}
        if key not in known:
            write_json(path, {**known, key: attrs.asdict(measure())})
        return Runtime(**read_json(path)[key])


# Compiling takes a minute, which only a GPU's speed pays back.
def _gains(model: nn.Module, images: Tensor, best: Runtime) -> bool:
    if not best.device.startswith("cuda"):
        return False
    return _seconds(model, images, attrs.evolve(best, compiled=True)) * _GAIN < _seconds(model, images, best)


def _handicap(runtime: Runtime) -> float:
    return _GAIN if runtime.precision == "bf16" else _LAYOUT_GAIN if runtime.channels_last else 1.0


def _seconds(model: nn.Module, images: Tensor, runtime: Runtime) -> float:
    trial = runtime.place(copy.deepcopy(model)).train()
    batch = images.to(runtime.device)
    if runtime.channels_last:
        batch = batch.to(memory_format=torch.channels_last)
    return min(_step(trial, batch, runtime) for _ in range(3))


def _step(model: nn.Module, batch: Tensor, runtime: Runtime) -> float:
    started = time.perf_counter()
    with runtime.autocast():
        loss = model(batch).square().mean()
    loss.backward()
    loss.item()  # waits for the device
    return time.perf_counter() - started
