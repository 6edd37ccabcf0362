"""The page that compares several runs, and the command that writes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from imgcls import Run
from imgcls.cli import app
from imgcls.comparison import compare_runs
from imgcls.report.material import Material
from imgcls.report.versus import write_comparison


@pytest.fixture(scope="module")
def other(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(run.folder, tmp_path_factory.mktemp("other") / "other"))


def test_equal_runs_do_not_differ(run: Run, other: Path, tmp_path: Path) -> None:
    runs = {"one": run.folder, "two": other}
    found = compare_runs(runs, resamples=50)
    page = found.report(tmp_path / "versus.html").read_text(encoding="utf-8")
    assert "<p>one and two do not clearly differ in ROC AUC (two - one: +0.000, " in page
    assert "<p>Their configurations are equal.</p>" in page
    assert "default-src 'none'" in page


def test_the_better_run_is_named_with_the_corrected_chance(run: Run, other: Path, tmp_path: Path) -> None:
    runs = {"one": run.folder, "two": other}
    found = compare_runs(runs, resamples=50)
    pairs = found.pairs.copy()
    pairs.loc[pairs["metric"] == "roc_auc", ["difference", "low", "high", "p", "p_holm"]] = [
        -0.2,
        -0.3,
        -0.1,
        0.01,
        0.02,
    ]
    materials = {name: Material.read(path) for name, path in runs.items()}
    page = write_comparison(tmp_path / "versus.html", found.table, pairs, materials).read_text(encoding="utf-8")
    assert (
        "<p>one is better than two in ROC AUC (two - one: -0.200, 95 % interval -0.300 to -0.100, p = 0.020)." in page
    )
    pairs.loc[pairs["metric"] == "roc_auc", "p_holm"] = 1e-6
    page = write_comparison(tmp_path / "versus.html", found.table, pairs, materials).read_text(encoding="utf-8")
    assert "to -0.100, p &lt; 0.001)." in page
    pairs.loc[pairs["metric"] == "roc_auc", "p_holm"] = np.nan
    page = write_comparison(tmp_path / "versus.html", found.table, pairs, materials).read_text(encoding="utf-8")
    assert "do not clearly differ" in page


def test_the_command_writes_one_page_or_compares(
    run: Run, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call = CliRunner()
    assert "report.html" in call.invoke(app, ["report", str(run.folder)]).output
    several = call.invoke(app, ["report", str(run.folder), str(other), "--out", "both.html"])
    assert several.exit_code == 0
    assert (tmp_path / "both.html").exists()
    refused = call.invoke(app, ["report", str(run.folder), "--out", "one.html"])
    assert "'--out' must come with several runs" in str(refused.exception)


def test_the_command_shows_what_is_left_of_a_damaged_run(other: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(other, tmp_path / "broken")
    (broken / "metrics.csv").write_text("")
    call = CliRunner().invoke(app, ["report", str(broken)])
    assert call.exit_code == 0
    assert "metrics.csv" in (broken / "report.html").read_text(encoding="utf-8")
    refused = CliRunner().invoke(app, ["report", str(broken), "--check"])
    assert refused.exit_code == 1


def test_runs_are_compared_at_the_command_line(run: Run, other: Path, tmp_path: Path) -> None:
    words = ["compare", str(run.folder), str(other)]
    told = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "t"), "--report", str(tmp_path / "c.html")]).output
    assert "roc_auc" in told
    assert (tmp_path / "t" / "pairs.csv").exists()
    assert "do not clearly differ" in (tmp_path / "c.html").read_text(encoding="utf-8")
    wrong = CliRunner().invoke(app, [*words, "--split", "tset"])
    assert str(wrong.exception) == "'split' must be 'test' or 'val', got 'tset'"
