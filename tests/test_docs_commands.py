"""The commands of the pages exist as they stand, and those about a run are run."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from imgcls import Dataset, Trainer
from imgcls.cli import app
from imgcls.testing import blobs, write_image_folder

ROOT = Path(__file__).parent.parent

PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]

#: What is done with a run; other commands take a server, a network or a person's time.
ABOUT_A_RUN = {"explain", "export", "predict", "report"}


def _commands(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```(?:console|bash)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).splitlines()
    return [found[1] for line in lines if (found := re.search(r"(?:^|\s)imgcls (\w.*)$", line.partition(" #")[0]))]


def _transcript() -> list[str]:
    text = (ROOT / "docs/results/eight_commands.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(r"^\$ imgcls (.*)$", text, re.MULTILINE)


COMMANDS = list(dict.fromkeys((page, command.strip()) for page in PAGES for command in _commands(page)))
COMMANDS += [("docs/eight_commands.md", command) for command in _transcript()]


#: Those about a run, each once; that of the tiles needs masks.
ONCE = {
    command: page
    for page, command in [*COMMANDS, ("docs/export.md", "export runs/chest --resize --out any-size")]
    if command.split()[0] in ABOUT_A_RUN and "runs/tiles" not in command
}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_and_their_options_exist(page: str, command: str) -> None:
    known: Any = typer.main.get_command(app)
    name, *rest = shlex.split(command)
    assert name in known.commands, page
    known.commands[name].make_context(name, rest, parent=known.make_context("imgcls", [name]))  # which reads them


def test_a_command_that_is_spelled_wrong_would_be_found() -> None:
    known: Any = typer.main.get_command(app)
    with pytest.raises(Exception, match="No such option: --threshhold"):
        known.commands["predict"].make_context("predict", ["runs/chest", "a.png", "--threshhold", "0.5"])


def _benchmarks(page: str) -> list[str]:
    return re.findall(r"^python (benchmarks/.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", dict.fromkeys(command for page in PAGES for command in _benchmarks(page)))
def test_benchmarks_and_their_options_exist(command: str) -> None:
    script, *words = shlex.split(command)
    code = (ROOT / script).read_text(encoding="utf-8")
    for word in words:
        assert not word.startswith("--") or f'"{word}"' in code, word


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/chest` and two more runs, and images to predict."""
    place = tmp_path_factory.mktemp("commands")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(place / "cache"))
        patch.setenv("IMGCLS_QUIET", "1")
        images = write_image_folder(place / "xrays", blobs(groups=30, size=16))
        Trainer(
            Dataset.from_folder(images, group=r"(g\d+)-", positive="b"),
            backbone={"name": "small-cnn", "base": 8, "depth": 2},
            image={"size": 16, "channels": 1},
            splitter={"name": "stratified-group-kfold", "k": 2},
            stages=[{"epochs": 1, "lr": 3e-3}],
            out=place / "runs" / "chest",
        ).fit()
    for name in ("resnet", "convnext"):
        shutil.copytree(place / "runs" / "chest", place / "runs" / name)
    (place / "new_images").mkdir()
    Image.new("L", (20, 30), 99).save(place / "new_images" / "one.png")
    return place


@pytest.mark.parametrize(("page", "command"), [(page, command) for command, page in ONCE.items()])
def test_commands_about_a_run_run(
    page: str, command: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command.startswith("export"):
        pytest.importorskip("onnxruntime")
    place = tmp_path / "work"
    shutil.copytree(workplace, place, ignore=shutil.ignore_patterns("xrays", "cache"))
    monkeypatch.chdir(place)
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 0, (page, done.output, done.exception)


def test_checking_and_beginning_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(40):
        split, label = ("test", "train", "train")[number % 3], ("NORMAL", "PNEUMONIA")[number % 2]
        name = f"IM-{number:04d}-0001.png" if label == "NORMAL" else f"person{number}_virus_1.png"
        folder = Path("chest_xray", split, label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((32, 32), 20 + number).save(folder / name)
    for page in ("README.md", "docs/checking.md", "docs/configuration.md"):
        beginning = [command for command in _commands(page) if command.startswith(("check", "init"))]
        assert beginning
        for command in beginning:
            done = CliRunner().invoke(app, shlex.split(command))
            assert done.exit_code == 0, (page, done.output, done.exception)
            Path("chest.yaml").unlink(missing_ok=True)
