"""How fast a predictor is, and how much memory it takes."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.folders import write_json
from imgcls.core.progress import say
from imgcls.core.randomness import generator
from imgcls.inference.predictor import Predictor
from imgcls.runtime.device import pick_device
from imgcls.runtime.timing import latencies, timed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Benchmark", "benchmark"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

#: Writing it forgets the highest memory so far (proc(5)).
_FORGET = "5"


@final
@attrs.frozen(kw_only=True, eq=False)
class Benchmark:
    """What was measured.

    Attributes:
        rows: One for each part and batch size. `part` is `files` (decoded and predicted), `arrays` (decoded before) or
            `network` (one model of the run alone, without normalisation, whose `p50_ms` is the latency that a search
            minimises). `images_per_second`; `p50_ms`, `p95_ms` and `p99_ms` of a batch; `memory_mib`, how far the
            process grew at most above what it took with the models loaded, and `memory_mib_per_image`, None where the
            system does not tell.
        facts: How many models there are, the form of the images, the machine.
    """

    rows: tuple[dict[str, Any], ...]
    facts: dict[str, Any]

    @property
    def table(self) -> pd.DataFrame:
        """The rows."""
        import pandas as pd

        return pd.DataFrame(list(self.rows))

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        return f"{self.table.to_string(index=False, na_rep='')}\n\n{told}"

    def save(self, path: Path) -> Path:
        """Write it as JSON.

        Args:
            path: The file.

        Returns:
            The file.
        """
        write_json(path, {"rows": list(self.rows), "facts": self.facts})
        return path


@attrs.frozen(kw_only=True)
class _Wanted:
    """What is measured, checked."""

    batch_sizes: tuple[int, ...] = attrs.field(converter=options.texts)
    rounds: int = attrs.field(validator=options.count(1))
    device: str = attrs.field(converter=pick_device)

    @batch_sizes.validator
    def _check_sizes(self, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, tuple) or not value or any(type(size) is not int or size < 1 for size in value):
            raise options.rejected(field.name, "be whole numbers of at least 1", value)


def benchmark(
    predictor: Predictor,
    *,
    files: Sequence[Path] = (),
    batch_sizes: Sequence[int] = (1, 8, 32),
    rounds: int = 50,
    device: str = "auto",
) -> Benchmark:
    """Measure a predictor on this machine.

    Args:
        predictor: The predictor, which computes on the CPU.
        files: Image files, which take turns; without any the part `files` is left out.
        batch_sizes: Images at a time.
        rounds: How many batches are timed; the 99th percentile wants a hundred or more.
        device: Where the part `network` runs: `"auto"` or a torch device.

    Returns:
        What was measured.

    Raises:
        ConfigError: if an option is wrong.
    """
    wanted = _Wanted(batch_sizes=batch_sizes, rounds=rounds, device=device)
    _give_back()
    before, sizes = _status("VmRSS"), sorted(set(wanted.batch_sizes))  # small ones first: memory is not given back
    rows = []
    for part, make in _parts(predictor, files).items():
        for size in sizes:
            say(f"Measuring {part}, {size} at a time")  # a bar would draw itself meanwhile
            rows.append({"part": part, "batch": size, **_measured(make(size), size, wanted.rounds, before)})
    single = latencies(copy.deepcopy(predictor.models[0]), predictor.image, wanted.device, rounds=rounds)
    rows.append({"part": "network", "batch": 1, **_speed(single, 1), **_grown(None, None, 1)})
    return Benchmark(rows=tuple(rows), facts=_facts(predictor, wanted))


# From a batch size to what predicts one batch.
def _parts(predictor: Predictor, files: Sequence[Path]) -> dict[str, Callable[[int], Callable[[], Any]]]:
    image = predictor.image
    several = generator(0, "benchmark").integers(0, 256, (8, *image.size, image.channels), dtype=np.uint8)
    pixels = several.astype(image.dtype)

    def of_files(size: int) -> Callable[[], Any]:
        turns = cycle(files)
        return lambda: predictor.predict(list(islice(turns, size)), batch_size=size)

    def of_arrays(size: int) -> Callable[[], Any]:
        return partial(predictor.probs, np.resize(pixels, (size, *pixels.shape[1:])))

    return {**({"files": of_files} if files else {}), "arrays": of_arrays}


def _measured(call: Callable[[], Any], size: int, rounds: int, before: float | None) -> dict[str, Any]:
    now = _status("VmRSS")
    low = before if before is None or now is None else min(before, now)  # memory of others may have been given back
    with _peak() as peak:
        found = timed(call, rounds=rounds)
    return {**_speed(1000 * found, size), **_grown(low, peak(), size)}


def _speed(milliseconds: NDArray[np.float64], size: int) -> dict[str, float]:
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99]).round(3).tolist()
    rate = round(1000 * size / float(milliseconds.mean()), 1)
    return {"images_per_second": rate, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def _grown(before: float | None, peak: float | None, size: int) -> dict[str, float | None]:
    grown = None if before is None or peak is None else max(peak - before, 0.0)
    each = None if grown is None else round(grown / size, 2)
    return {"memory_mib": None if grown is None else round(grown, 1), "memory_mib_per_image": each}


# What others have freed would be used again unseen.
def _give_back() -> None:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)


# The highest memory within the block, in MiB; the kernel keeps it for the whole process, so it is asked to begin anew.
@contextlib.contextmanager
def _peak() -> Iterator[Callable[[], float | None]]:
    try:
        _CLEAR.write_text(_FORGET, encoding="ascii")
        known = True
    except OSError:
        known = False
    yield lambda: _status("VmHWM") if known else None


def _status(name: str) -> float | None:
    if not sys.platform.startswith("linux"):
        return None
    lines = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="ascii").splitlines() if ":" in line)
    return int(lines[name].split()[0]) / 1024


def _facts(predictor: Predictor, wanted: _Wanted) -> dict[str, Any]:
    height, width = predictor.image.size
    return {
        "models": len(predictor.models),
        "image": f"{height} x {width} x {predictor.image.channels}",
        "rounds": wanted.rounds,
        "threads": torch.get_num_threads(),
        "device of the network": wanted.device,
        "machine": f"{platform.machine()}, torch {torch.__version__.split('+')[0]}",
    }
