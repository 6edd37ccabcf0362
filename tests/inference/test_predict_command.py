import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import imgcls
from imgcls import Dataset, Trainer
from imgcls.cli import main
from imgcls.testing import blobs, write_image_folder

Predict = Callable[..., int]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `images` with a run on it in `run`, and a folder `new` in which one of three files is broken."""
    folder = tmp_path_factory.mktemp("place")
    images = write_image_folder(folder / "images", blobs(size=8, groups=18))
    new = folder / "new"
    new.mkdir()
    for name, source in zip(("1.png", "3.png"), sorted(images.rglob("*.png"))[::40], strict=False):
        (new / name).write_bytes(source.read_bytes())
    (new / "2.png").write_bytes(b"no image")
    options = {"backbone": {"name": "small-cnn", "base": 4, "depth": 2}, "image": {"size": 8}, "device": "cpu"}
    options |= {"stages": [{"epochs": 1, "lr": 0.03}], "batch_size": 8, "precision": "fp32", "out": folder / "run"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(folder / "cache"))
        patch.setenv("IMGCLS_QUIET", "1")
        data = Dataset.from_folder(images, group="(g[0-9]+)-")
        Trainer.from_config({**options, "data": data.source, "splitter": "holdout"}).fit()
    return folder


@pytest.fixture
def predict(place: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Call the command; the exit code is returned."""

    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["imgcls", "predict", str(place / "run"), *map(str, words)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


def test_unreadable_files_are_rows_and_counted(
    predict: Predict, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(place / "new", "--out", tmp_path / "p.csv") == 0
    printed = capsys.readouterr()
    assert "1 of 3 files could not be read" in printed.err
    assert "2 predictions" in printed.out
    table = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)
    assert [Path(path).name for path in table["path"]] == ["1.png", "2.png", "3.png"]
    assert table["error"].ne("").tolist() == [False, True, False]
    assert table["decision"].eq("").tolist() == [False, True, False]


def test_nothing_readable_is_a_failure(predict: Predict, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(place / "new" / "2.png") == 1
    assert predict(place / "new", "--on-error", "raise") == 1
    assert "2.png" in capsys.readouterr().err


def test_guard_and_neighbours_are_columns(predict: Predict, place: Path, tmp_path: Path) -> None:
    words = ("--neighbours", "2", "--guard", "--tta", "flip-lr", "--out", tmp_path / "p.json")
    assert predict(place / "new", *words) == 0
    rows = json.loads((tmp_path / "p.json").read_text())
    known = set(imgcls.load_run(place / "run").data.ids)
    assert {rows[0]["neighbour_1"], rows[2]["neighbour_2"]} <= known
    assert rows[0]["unlike"] in {True, False}
    assert rows[1]["distance"] is None


def test_formats_of_other_programs_are_written(
    predict: Predict, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, image = tmp_path / "p.txt", place / "new" / "1.png"
    assert predict(image, "--format", "lines", "--threshold", "0", "--out", out) == 0
    assert out.read_text() == "1\n"
    assert 0 <= float((tmp_path / "p.txt.proba").read_text()) <= 1
    assert predict(image, "--format", "indices", "--threshold", "1", "--out", tmp_path / "p.json") == 0
    assert json.loads((tmp_path / "p.json").read_text()) == [0]
    assert predict(image, "--format", "lines") == 1
    assert "'--format' must come with '--out'" in capsys.readouterr().err


def test_a_number_for_each_of_two_classes_is_refused(
    predict: Predict, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(place / "new", "--threshold", "{a: 0.3, b: 0.5}") == 1
    assert "'threshold' must be one number, of 'b', for two classes" in capsys.readouterr().err


def test_maps_are_drawn_and_named_in_the_table(predict: Predict, place: Path, tmp_path: Path) -> None:
    words = ("--maps", tmp_path / "maps", "--explainer", "{name: lrp}", "--out", tmp_path / "p.csv")
    assert predict(place / "new", *words) == 0
    named = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)["map"].tolist()
    assert named[1] == ""
    assert [named[0], named[2]] == sorted(map(str, (tmp_path / "maps").iterdir()))


def test_an_export_is_refused_by_name(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = imgcls.load_run(place / "run").export("safetensors", out=tmp_path / "export")
    monkeypatch.setattr(sys, "argv", ["imgcls", "predict", str(folder), str(place / "new"), "--maps", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    said = " ".join(capsys.readouterr().err.split())
    assert "must name the folder of a finished run, got an export" in said
