from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgcls.balancing.base import samplers
from imgcls.core import discovery
from imgcls.core.errors import PluginConflictError, PluginContractError, PluginLoadError, UnknownPluginError
from imgcls.core.plugins import all_plugins
from imgcls.splitting.base import splitters

TOY = Path(__file__).parent / "toy_plugin"
GOOD = "[imgcls.samplers]\nstranger = imgcls.balancing.samplers:Uniform\n"


@pytest.fixture(scope="module", params=["normal", "editable"])
def toy(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    installed: Callable[[Path, Path, bool], Path],
) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(TOY, folder / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    return installed(folder / "toy", folder / "venv", request.param == "editable")


def run(python: Path, code: str) -> str:
    done = subprocess.run([python, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installed_plugins_are_listed_without_being_imported(toy: Path) -> None:
    code = """
import sys
from imgcls.core.plugins import all_plugins
for plugin in all_plugins():
    if plugin.name.startswith("toy-"):
        print(plugin.group, plugin.name, plugin.distribution, plugin.state)
print([name for name in sys.modules if name.startswith(("imgcls_toy", "imgcls.splitting", "torch"))])
"""
    assert run(toy, code).splitlines() == [
        "imgcls.backbones toy-pixels imgcls_toy 1.2 ok",
        "imgcls.splitters toy-last-group imgcls_toy 1.2 ok",
        "imgcls.explainers toy-gradient imgcls_toy 1.2 ok",
        "[]",
    ]


def test_installed_splitter_splits(toy: Path) -> None:
    code = """
import numpy as np, imgcls
from imgcls.core.dumping import spec_of
data = imgcls.Dataset.from_arrays(np.zeros((8, 2, 2), np.uint8), list("abababab"), groups=list("uuvvwwxx"))
splitter = imgcls.splitters.create("toy-last-group")
fold = splitter.split(data)[0]
print(fold.train.tolist(), fold.val.tolist(), fold.test.tolist(), spec_of(splitter))
"""
    assert run(toy, code) == "[0, 1, 2, 3] [6, 7] [4, 5] {'name': 'toy-last-group'}\n"


def test_installed_backbone_builds_and_explainer_explains(toy: Path) -> None:
    code = """
import imgcls, torch
model = imgcls.backbones.create({"name": "toy-pixels", "grid": 3}).build(2, in_channels=1, image_size=(8, 8))
maps = imgcls.explainers.create("toy-gradient").explain(model, torch.rand(2, 1, 8, 8))
print(model.facts.num_features, tuple(maps.maps.shape), maps.provenance["method"])
"""
    assert run(toy, code) == "36 (2, 8, 8) toy-gradient\n"


def distribution(site: Path, name: str, entries: str | None, *, version: str = "1.0") -> Path:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if entries is not None:
        (folder / "entry_points.txt").write_text(entries)
    return site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of the path, like a second site-packages."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


def stranger(name: str = "stranger") -> list[tuple[str, str, str]]:
    found = [plugin for plugin in all_plugins() if plugin.name == name]
    return [(plugin.distribution, plugin.state, plugin.cause) for plugin in found]


@pytest.mark.parametrize(
    "broken",
    [
        "stranger = no:Section\n",
        "[imgcls.samplers]\nmine = a:B\nmine = a:C\n",
        "[console_scripts]\nx = %(nothing)s:y\n[console_scripts]\n",
        "[imgcls.samplers]\nmine\n",
        "\ufeff[imgcls.samplers]\nmine = a:B\n",
        "[imgcls.samplers\n",
        "\0\1",
    ],
)
def test_broken_metadata_of_a_stranger_hides_nothing(site: Path, broken: str) -> None:
    distribution(distribution(site, "good", GOOD), "broken", broken)
    assert stranger() == [("good 1.0", "ok", "")]
    assert {"uniform", "weighted", "stranger"} <= set(samplers.names())
    assert samplers.get("stranger") is samplers.get("uniform")


def test_metadata_that_is_no_text_hides_nothing(site: Path) -> None:
    distribution(distribution(site, "good", GOOD), "broken", "")
    (site / "broken-1.0.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe\xfa")
    assert stranger() == [("good 1.0", "ok", "")]


def test_percent_signs_are_no_interpolation(site: Path) -> None:
    distribution(site, "good", GOOD + "odd = %(x)s:Y\n")
    assert stranger() == [("good 1.0", "ok", "")]
    ((_, state, _),) = stranger("odd")
    assert state == "broken"


def test_path_objects_and_absent_folders_on_the_path(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(site, "good", GOOD)
    items: list[Any] = [site, Path("nowhere"), "nowhere.zip", "", *sys.path[1:]]
    monkeypatch.setattr(sys, "path", items)
    assert stranger() == [("good 1.0", "ok", "")]


def test_two_distributions_with_one_name_are_a_conflict_of_both(site: Path) -> None:
    distribution(distribution(site, "one", GOOD), "two", GOOD, version="2.5")
    listed = stranger()
    assert listed == [
        ("one 1.0", "conflict", "also declared by two 2.5"),
        ("two 2.5", "conflict", "also declared by one 1.0"),
    ]
    with pytest.raises(
        PluginConflictError, match=r"sampler 'stranger' must .*, got one 1\.0 and two 2\.5; uninstall one"
    ):
        samplers.get("stranger")
    assert samplers.create("uniform")


def test_a_built_in_cannot_be_replaced(site: Path) -> None:
    distribution(site, "thief", GOOD.replace("stranger", "uniform"))
    with pytest.raises(PluginConflictError, match=r"got imgcls .* and thief 1\.0|got thief 1\.0 and imgcls"):
        samplers.get("uniform")


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("nowhere.at.all:Class", "module 'nowhere.at.all' is not installed"),
        ("imgcls.balancing.nowhere:Class", "module 'imgcls.balancing.nowhere' is not installed"),
        ("imgcls.balancing.samplers", "'imgcls.balancing.samplers' names no class"),
        ("what is this", "'what is this' does not read 'module:Class'"),
    ],
)
def test_target_that_is_not_there_is_listed_as_broken(site: Path, target: str, cause: str) -> None:
    distribution(site, "bad", f"[imgcls.samplers]\nstranger = {target}\n")
    assert stranger() == [("bad 1.0", "broken", cause)]
    with pytest.raises(PluginLoadError, match=r"sampler 'stranger' of bad 1\.0 must be importable"):
        samplers.get("stranger")
    assert samplers.create("weighted")


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("x = ", "SyntaxError: "),
        ("1 / 0", "ZeroDivisionError"),
        ("Other = 1", "AttributeError: .*'Class'"),
    ],
)
def test_module_that_fails_is_named_with_its_distribution(site: Path, code: str, cause: str) -> None:
    module = f"failing_{abs(hash(code))}"
    distribution(site, "bad", f"[imgcls.samplers]\nstranger = {module}:Class\n")
    (site / f"{module}.py").write_text(code)
    assert stranger() == [("bad 1.0", "ok", "")]
    with pytest.raises(PluginLoadError, match=rf"sampler 'stranger' of bad 1\.0 must be importable, got {cause}"):
        samplers.get("stranger")


@pytest.mark.parametrize(
    "target",
    [
        "imgcls.splitting.holdout:Holdout",
        "imgcls.balancing.base:Sampler",
        "imgcls.balancing.base:samplers",
        "toy_not_attrs:NotAttrs",
    ],
)
def test_wrong_kind_of_class_breaks_the_contract(site: Path, target: str) -> None:
    distribution(site, "bad", f"[imgcls.samplers]\nstranger = {target}\n")
    (site / "toy_not_attrs.py").write_text(
        "from imgcls import Sampler\nclass NotAttrs(Sampler):\n    def _draw(self, records, **_): return [0]\n"
    )
    with pytest.raises(
        PluginContractError, match=r"'stranger' of bad 1\.0 must be a concrete attrs subclass of Sampler"
    ):
        samplers.get("stranger")


def test_extras_in_a_target_are_understood(site: Path) -> None:
    distribution(site, "good", "[imgcls.samplers]\nstranger = imgcls.balancing.samplers:Uniform [gpu]\n")
    assert stranger() == [("good 1.0", "ok", "")]
    assert samplers.get("stranger") is samplers.get("uniform")


def test_older_installation_behind_a_newer_one_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = distribution(tmp_path / "new", "My.Plugin", None, version="2.0")
    old = distribution(tmp_path / "old", "my_plugin", GOOD)
    monkeypatch.setattr(sys, "path", [str(new), str(old), *sys.path])
    assert stranger() == []
    monkeypatch.setattr(sys, "path", [str(old), str(new), *sys.path])
    assert stranger() == [("my_plugin 1.0", "ok", "")]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("hold-out", "did you mean 'holdout'"), ("qqq", "there are 'balanced-holdout', ")],
)
def test_unknown_name_is_answered_with_the_nearest(name: str, remedy: str) -> None:
    with pytest.raises(UnknownPluginError, match=f"'splitter' must name an installed plugin, got {name!r}; {remedy}"):
        splitters.get(name)


def test_module_of_a_config_is_never_imported(site: Path) -> None:
    site.mkdir()
    (site / "evil.py").write_text("raise SystemExit")
    for name in ("evil:Class", "evil.Class", "evil"):
        with pytest.raises(UnknownPluginError):
            splitters.create({"name": name})


def test_every_built_in_is_found_and_all_right() -> None:
    ours = [plugin for plugin in all_plugins() if plugin.distribution.startswith("imgcls ")]
    assert {plugin.group for plugin in ours} == set(discovery.GROUPS)
    assert {plugin.state for plugin in ours} == {"ok"}
