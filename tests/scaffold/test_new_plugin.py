from __future__ import annotations

import ast
import importlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import imgcls.testing
from imgcls.core.errors import ConfigError
from imgcls.core.plugins import Registry
from imgcls.scaffold.new_plugin import KINDS, new_plugin

REGISTRIES = {kind.group: name for name, kind in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_the_conformance_kit(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"fresh-{kind}"
    folder = new_plugin(name, kind=kind, out=tmp_path / "made")
    monkeypatch.syspath_prepend(folder / "src")
    module = importlib.import_module(f"fresh_{kind.replace('-', '_')}.plugin")
    plugin = getattr(module, "".join(word.capitalize() for word in name.split("-")))
    getattr(imgcls.testing, KINDS[kind].check)(plugin())


@pytest.mark.parametrize("kind", KINDS)
def test_its_files_are_python_and_toml_with_nothing_left_open(kind: str, tmp_path: Path) -> None:
    import tomllib

    folder = new_plugin("fresh-one", kind=kind, out=tmp_path / "made")
    for path in folder.rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"))
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"] == {KINDS[kind].group: {"fresh-one": "fresh_one.plugin:FreshOne"}}
    assert not [path for path in folder.rglob("*") if path.is_file() and "{{ " in path.read_text().replace("${{ ", "")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Tiny_Net"}, "'name' must be kebab-case"),
        ({"name": "small-cnn"}, "'name' must be new among imgcls.backbones"),
        ({"kind": "backbon"}, "'kind' must be one of backbone.*did you mean 'backbone'"),
    ],
)
def test_bad_names_and_kinds_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    name, kind = options.get("name", "fresh-one"), options.get("kind", "backbone")
    with pytest.raises(ConfigError, match=message):
        new_plugin(name, kind=kind, out=tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="'out' must be a folder that does not exist or is empty"):
        new_plugin("fresh-one", kind="backbone", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_every_kind_of_plugin_has_a_kit() -> None:
    groups = {registry.group for registry in vars(imgcls).values() if isinstance(registry, Registry)}
    assert groups <= set(REGISTRIES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_distribution_installs_and_passes_its_own_tests(
    kind: str, tmp_path: Path, installed: Callable[[Path, Path, bool], Path]
) -> None:
    folder = new_plugin(f"fresh-{kind}", kind=kind, out=tmp_path / "made")
    python = installed(folder, tmp_path / "venv", True)
    done = subprocess.run([python, "-m", "pytest", "-q"], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout
