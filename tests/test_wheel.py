"""The wheel holds what it needs, and works where nothing is installed but what it asks for."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SMALL = runpy.run_path(str(Path(__file__).with_name("test_examples.py")))["SMALL"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *flags, "-w", str(folder), str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel beside the packages that it asks for, and those of its extra `onnx`; nothing else is there."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    flags = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    subprocess.run([*pip, *flags, str(wheel)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (own,) = metadata.distributions(path=[str(site)], name="imgcls")
    _lend(_asked_for(own.requires or [], "onnx"), site)
    return folder


# With all that these ask for in turn.
def _asked_for(requirements: Iterable[str], extra: str) -> set[str]:
    todo = [(text, extra) for text in requirements]
    found: set[tuple[str, str]] = set()
    while todo:
        text, extra = todo.pop()
        needed = Requirement(text)
        if (text, extra) not in found and (needed.marker is None or needed.marker.evaluate({"extra": extra})):
            found.add((text, extra))
            todo += [(one, other) for one in metadata.requires(needed.name) or [] for other in ("", *needed.extras)]
    return {Requirement(text).name for text, _ in found}


def _lend(names: Iterable[str], site: Path) -> None:
    for name in names:
        tops = {file.parts[0] for file in metadata.files(name) or []} - {"..", "__pycache__"}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(sysconfig.get_path("purelib")) / top)


def said(environment: Path, folder: Path, *words: str) -> str:
    """Run a program of the environment in a folder outside of the checkout; what it prints."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    own |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [str(environment / "bin" / words[0]), *words[1:]]
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    package = ROOT / "src" / "imgcls"
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {path.relative_to(package.parent).as_posix() for path in files}
    assert {"imgcls/py.typed", "imgcls/report/page.html", "imgcls/serving/page.html"} <= names


def test_developers_packages_are_not_there(environment: Path, tmp_path: Path) -> None:
    code = (
        "import imgcls\nfrom importlib.util import find_spec as at\nprint(imgcls.__file__, at('pytest'), at('fastapi'))"
    )
    where, *absent = said(environment, tmp_path, "python", "-c", code).split()
    assert Path(where).is_relative_to(environment)
    assert absent == ["None", "None"]


def test_plugins_and_the_demonstration_run(environment: Path, tmp_path: Path) -> None:
    listed = said(environment, tmp_path, "imgcls", "plugins").splitlines()[1:]
    assert len(listed) > 40
    assert all(line.split()[-1] == "ok" for line in listed)
    assert "Report:" in said(environment, tmp_path, "imgcls", "demo", "--out", "demo")
    assert (tmp_path / "demo" / "report.html").exists()


@pytest.mark.parametrize("name", SMALL)
def test_an_example_runs(name: str, environment: Path, tmp_path: Path) -> None:
    options, word, file = SMALL[name]
    shutil.copy(ROOT / "examples" / f"{name}.py", tmp_path)
    code = f"import {name}; {name}.main('run', **{options!r})"
    assert word in said(environment, tmp_path, "python", "-c", code)
    assert (tmp_path / "run" / file).exists()


def test_the_example_for_torchrun_runs(environment: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "under_torchrun.py", tmp_path)
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    assert "2 processes; accuracy" in said(environment, tmp_path, "python", *launcher, "under_torchrun.py")
