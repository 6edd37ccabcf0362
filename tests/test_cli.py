"""The command line as a user types it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import imgcls
from imgcls.cli import main
from imgcls.core.config import to_yaml
from imgcls.testing import blobs, write_image_folder


def call(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["imgcls", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_image_folder(tmp_path_factory.mktemp("images"), data=blobs()))


def config(folder: Path, **changes: object) -> dict[str, object]:
    return {
        "data": {"from": "folder", "root": str(folder)},
        "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
        "image": {"size": 16, "channels": 1},
        "splitter": "holdout",
        "stages": [{"epochs": 1, "lr": 1e-2}],
        "precision": "fp32",
        **changes,
    }


def written(path: Path, options: object) -> Path:
    path.write_text(to_yaml(options), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cli")
    file = written(place / "config.yaml", config(folder))
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, "train", file, f"out={place / 'run'}", "stages.0.lr=2e-2") == 0
    return place / "run"


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"imgcls {imgcls.__version__}\n"


def test_plugins_are_listed_with_distribution_and_state(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "plugins") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["imgcls.splitters", "holdout", "imgcls", imgcls.__version__, "ok"] in lines


def test_train_writes_run_and_report(run: Path) -> None:
    assert (run / "run.json").exists()
    assert "<h1>run</h1>" in (run / "report.html").read_text(encoding="utf-8")


def test_overrides_reach_the_run(run: Path) -> None:
    assert imgcls.core.config.from_yaml((run / "config.yaml").read_text())["stages"][0]["lr"] == 2e-2


def test_a_run_trains_again_from_its_own_configuration(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(monkeypatch, "train", run / "config.yaml", f"out={tmp_path / 'again'}") == 0
    pd.testing.assert_frame_equal(imgcls.load_run(run).metrics, imgcls.load_run(tmp_path / "again").metrics)


# Going on, and evaluating again


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--resume", "'out' must name a run that has begun for '--resume', got"),
        ("--evaluate-only", "'out' must name a finished run for '--evaluate-only', got"),
    ],
)
@pytest.mark.parametrize("out", ["null", "new"])
def test_going_on_with_nothing_is_refused_and_trains_nothing(
    word: str,
    said: str,
    out: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path / "config.yaml", config(folder))
    assert call(monkeypatch, "train", file, f"out={out}", word) == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.fixture
def begun(run: Path, folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A configuration, and the folder of its run, which was cut off before it was judged."""
    place = tmp_path / "run"
    shutil.copytree(run, place)
    (place / "run.json").unlink()
    stages = [{"epochs": 1, "lr": 2e-2}]
    return written(tmp_path / "config.yaml", config(folder, out=str(place), stages=stages)), place


def test_resume_goes_on_with_what_was_trained(
    begun: tuple[Path, Path], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, place = begun
    assert call(monkeypatch, "train", file, "--resume") == 0
    assert (place / "fold_0" / "history.csv").read_bytes() == (run / "fold_0" / "history.csv").read_bytes()
    assert imgcls.load_run(place).metrics.equals(imgcls.load_run(run).metrics)


def test_evaluate_only_wants_a_finished_run_and_leaves_its_models_alone(
    begun: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, place = begun
    assert call(monkeypatch, "train", file, "--evaluate-only") == 1
    assert "must name a finished run" in capsys.readouterr().err
    assert call(monkeypatch, "train", file) == 0
    before = {path: path.stat().st_mtime_ns for path in (place / "fold_0").iterdir()}
    (place / "report.html").unlink()
    capsys.readouterr()
    assert call(monkeypatch, "train", file, "--evaluate-only") == 0
    assert {path: path.stat().st_mtime_ns for path in (place / "fold_0").iterdir()} == before
    assert (place / "report.html").exists()
    assert "by image (n = 12)" in capsys.readouterr().out


def test_schema_is_printed_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "schema") == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"data", "backbone", "search"} <= set(printed["properties"])
    assert call(monkeypatch, "schema", "--out", tmp_path / "schema.json") == 0
    assert json.loads((tmp_path / "schema.json").read_text(encoding="utf-8")) == printed


def test_predict_takes_folders_and_writes_a_table(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(monkeypatch, "predict", run, folder, "--out", tmp_path / "p.csv") == 0
    table = pd.read_csv(tmp_path / "p.csv")
    assert len(table) == len(imgcls.load_run(run).data)
    assert set(table["decision"]) <= set(imgcls.load_run(run).model.classes)


def test_predict_adds_sets_and_says_where_it_abstains(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("predict", run, folder, "--sets", "0.2", "--out", tmp_path / "p.csv", "--reject")
    assert call(monkeypatch, *words, "coverage=0.9") == 0
    assert {"set", "rejected"} <= set(pd.read_csv(tmp_path / "p.csv"))
    for wrong in ("certainty=0.9", "risk", "risk=2"):
        assert call(monkeypatch, *words, wrong) == 1
        assert "'--reject' must be risk=... or coverage=..." in capsys.readouterr().err


def test_evaluate_takes_columns_and_other_sets(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "evaluate", run, "--groups", "label") == 0
    assert "label=a" in capsys.readouterr().out
    words = ("evaluate", run, "group=(g[0-9]+)-", "--on", folder, "--aggregation", "mean", "--groups", "group")
    assert call(monkeypatch, *words, "--out", tmp_path / "new") == 0
    table = pd.read_csv(tmp_path / "new" / "metrics.csv", keep_default_na=False)
    assert {"image", "group"} == set(table["level"])
    assert table["group"].str.startswith("group=g").any()
    assert call(monkeypatch, "evaluate", run, "--groups", "sites") == 1
    assert "'groups' must name a column of the predictions, got 'sites'" in capsys.readouterr().err


def test_predict_without_images_says_so(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "predict", run, tmp_path) == 1
    assert "'images' must name images or folders of them" in capsys.readouterr().err


def test_explain_puts_maps_into_the_report(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "explain", run, "--limit", "3") == 0
    assert "3 maps" in capsys.readouterr().out
    assert (run / "report.html").read_text(encoding="utf-8").count("<figure><img") == 3


def test_explain_takes_a_class_all_images_and_options_of_the_method(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--method", "{name: grad-cam}", "--target", "a", "--limit", "0", "--split", "val")
    assert call(monkeypatch, "explain", run, *words) == 0
    count = len(imgcls.load_run(run).predictions("val"))
    assert f"{count} maps" in capsys.readouterr().out
    index = pd.read_csv(run / "attributions" / "grad-cam-val-a" / "index.csv")
    assert index["target"].tolist() == ["a"] * count


def test_explain_with_masks_wants_masks(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "explain", run, "--masks") == 1
    assert "'masks' must be left out for a set without masks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backbon": "resnet18"}, "'backbon' must be an option of Trainer; did you mean 'backbone'?"),
        ({"image": {"sise": 3}}, "'image.sise' must be an option of ImageSpec; did you mean 'size'?"),
        ({"stages": [{"epochs": 0}]}, "'stages.0.epochs' must be a whole number of at least 1, got 0"),
        ({"backbone": "restnet18"}, "did you mean 'resnet18'"),
        ({"splitter": "holdot"}, "'splitter' must name an installed plugin, got 'holdot'; did you mean 'holdout'?"),
        ({"data": {"from": "foldr"}}, "'data.from' must name a reader, got 'foldr'; did you mean 'folder'?"),
        ({"data": {"from": "folder", "rot": "x"}}, "'data.rot' must be an option of 'folder'; did you mean 'root'?"),
    ],
)
def test_errors_are_one_paragraph(
    change: dict[str, object],
    said: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = written(tmp_path / "config.yaml", config(folder, **change))
    assert call(monkeypatch, "train", file) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("imgcls: ")
    assert said in error
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1


def test_an_unknown_path_of_an_override_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "config.yaml", config(folder))
    assert call(monkeypatch, "train", file, "stages.0.lrr=1") == 1
    assert "'stages.0.lrr' must lead to an option of Stage; did you mean 'lr'?" in capsys.readouterr().err


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMGCLS_DEBUG", "")  # put back after the test
    with pytest.raises(imgcls.ImgclsError, match="'config' must name a YAML file"):
        call(monkeypatch, "--debug", "train", tmp_path / "none.yaml")


def test_module_is_the_command_line_too() -> None:
    done = subprocess.run([sys.executable, "-m", "imgcls", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("imgcls ")


@pytest.mark.parametrize("command", ["check", "fit"])
def test_help_shows_regular_expressions_whole(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, command, "--help") == 0
    assert "[a-z]+|(?:NORMAL2-)?IM-[0-9]+" in capsys.readouterr().out


def test_help_loads_no_torch() -> None:
    code = "import sys; sys.argv = ['imgcls', '--help']\ntry:\n import imgcls.cli as c; c.main()\n"
    code += "except SystemExit: pass\nsys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


# Checking and the cache


def test_check_lists_faults_and_says_so_by_its_exit_code(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "check", folder, "group=(g[0-9]+)-", "--html", tmp_path / "check.html") == 0
    assert "<html" in (tmp_path / "check.html").read_text()
    broken = write_image_folder(tmp_path / "broken", blobs(groups=4))
    first = sorted(broken.rglob("*.png"))[0]
    first.write_bytes(b"no image")
    capsys.readouterr()
    assert call(monkeypatch, "check", broken) == 1
    out, err = capsys.readouterr()
    assert first.name in out
    assert "Traceback" not in err


def test_check_reads_tables_archives_and_configurations(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = imgcls.Dataset.from_folder(folder)
    pd.DataFrame({"file": data.ids, "label": data.frame["label"]}).to_csv(tmp_path / "x.csv", index=False)
    assert call(monkeypatch, "check", tmp_path / "x.csv", f"root={folder}", "image=file") == 0
    assert call(monkeypatch, "check", written(tmp_path / "c.yaml", config(folder)), "--no-near") == 0


def test_map_of_no_features_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "check", folder, "--map", "pca") == 1
    assert "'--map' must come with '--embed'" in capsys.readouterr().err


def test_cache_is_listed_and_pruned(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from imgcls.data.store import open_store

    store = open_store(imgcls.Dataset.from_folder(folder), imgcls.ImageSpec(size=8))
    assert call(monkeypatch, "cache", "list") == 0
    assert store.folder.name[:12] in capsys.readouterr().out
    assert call(monkeypatch, "cache", "prune") == 1
    assert "'older_than' or 'keys' must be given" in capsys.readouterr().err
    assert call(monkeypatch, "cache", "prune", "--older-than", "0") == 0
    assert "Deleted 1" in capsys.readouterr().out
    assert not store.folder.exists()
