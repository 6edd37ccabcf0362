"""What all tests share: quiet, offline, with a cache of their own."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when the hub's client is imported
os.environ["DO_NOT_TRACK"] = os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # as well
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

hypothesis.settings.register_profile("imgcls", deadline=None, derandomize=True, database=None, max_examples=25)
hypothesis.settings.load_profile("imgcls")

collect_ignore = ["toy_plugin"]  # a distribution of its own, installed by test_plugins.py

_number = itertools.count()


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    absent = {
        "realdata": (not os.environ.get("IMGCLS_TEST_DATA"), "IMGCLS_TEST_DATA is not set"),
        "slow": ("slow" not in config.getoption("markexpr"), "run by -m slow"),
    }
    for item in items:
        for name, (skipped, reason) in absent.items():
            if skipped and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(autouse=True)
def own_cache(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGCLS_CACHE", str(caches / str(next(_number))))
    monkeypatch.setenv("IMGCLS_QUIET", "1")


@pytest.fixture(autouse=True)
def same_chance() -> None:
    """Let a test draw the same whichever tests ran before it; weights of a bare module come from this generator."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Make the sums of torch independent of the number of cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[..., Path]:
    """Write small random images below a folder, by their relative paths."""

    def make(*paths: str, size: tuple[int, int] = (12, 10), root: Path = tmp_path) -> Path:
        rng = np.random.default_rng(len(paths))
        for path in paths:
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(file)
        return root

    return make


@pytest.fixture(scope="session")
def installed() -> Callable[[Path, Path, bool], Path]:
    """Install a distribution into a virtual environment that sees the packages of the running one."""

    def install(project: Path, folder: Path, editable: bool) -> Path:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        site = next(folder.glob("lib/python*/site-packages"))
        (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        python = folder / "bin" / "python"
        flags = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", *flags]
        subprocess.run([*command, *(["-e"] if editable else []), str(project)], check=True, capture_output=True)
        return python

    return install
