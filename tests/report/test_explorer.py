"""The slider of the page: its numbers, and the page in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from imgcls import Run
from imgcls.report.explorer import explore
from imgcls.report.material import Material

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_the_slider_begins_at_the_threshold_that_decides(material: Material, run: Run) -> None:
    found = explore(material)
    assert found is not None
    deciding = [t.value for t in run.thresholds if t.model == "mean" and t.rule == run.model.decision]
    assert found.cuts[found.start] == deciding[0]
    assert [part["name"] for part in found.parts] == ["validation", "test"]


def test_each_position_of_the_slider_counts_the_records_of_the_run(material: Material, run: Run) -> None:
    found, predictions = explore(material), run.predictions("test")
    assert found is not None
    sick = predictions.names(predictions.labels) == found.positive
    part = found.parts[1]
    for at, cut in enumerate(found.cuts):
        called = predictions.scores >= cut
        assert (part["hits"][at], part["alarms"][at]) == ((called & sick).sum(), (called & ~sick).sum())
    assert (part["positives"], part["negatives"]) == (sick.sum(), (~sick).sum())
    assert found.prevalence == pytest.approx(sick.mean())
    assert np.all(np.diff(part["hits"]) <= 0)


def test_the_page_holds_the_numbers_of_the_slider(page: str, material: Material) -> None:
    held = re.search(r'id="explorer-data">(.*?)</script>', page, re.S)
    found = explore(material)
    assert held is not None
    assert found is not None
    assert json.loads(held[1]) == found.to_dict()


#: Moves the slider and the prevalence as a person would, and writes down what the page then says.
_SCRIPT = """
<script>
window.errors = [];
window.addEventListener("error", (event) => window.errors.push(event.message));
window.addEventListener("load", () => {
  const told = {}, find = (name) => document.getElementById("explorer-" + name);
  told.first = find("sensitivity-1").textContent;
  find("threshold").value = "0";
  find("threshold").dispatchEvent(new Event("input"));
  told.least = find("sensitivity-1").textContent;
  find("prevalence").value = "1";
  find("prevalence").dispatchEvent(new Event("input"));
  told.ppv = find("ppv-1").textContent;
  told.words = find("words").textContent;
  find("reset").click();
  told.reset = find("sensitivity-1").textContent;
  told.focusable = find("threshold").tabIndex >= 0;
  told.errors = window.errors;
  told.dark = matchMedia("(prefers-color-scheme: dark)").matches;
  told.background = getComputedStyle(document.body).backgroundColor;
  document.body.dataset.told = JSON.stringify(told);
});
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_works_in_a_browser(page: str, run: Run, tmp_path: Path, dark: bool) -> None:
    watched = tmp_path / "page.html"
    watched.write_text(page.replace("<body>", f"<body>{_SCRIPT}", 1), encoding="utf-8")
    dumped = opened(watched, tmp_path, "--dump-dom", f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    assert "CONSOLE" not in dumped.stderr
    found = re.search(r'data-told="([^"]*)"', dumped.stdout)
    assert found is not None
    told = json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&"))
    assert told["errors"] == []
    sick = run.predictions("test").has(run.predictions("test").positive_index or 0)
    assert told["least"].startswith("100.0 %")
    assert told["reset"] == told["first"] != told["least"]
    assert told["ppv"] == "1.0 %"  # where every record is called, as many alarms are right as there are
    assert told["words"].startswith("Of 1000 records, 10 have b: 10 are found and 0 missed.")
    assert told["focusable"]
    assert told["dark"] == dark
    assert told["background"] == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    assert sick.any()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_prints_to_pdf(run: Run, tmp_path: Path) -> None:
    opened(run.report(), tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def opened(page: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'browser'}",
        *options,
        page.resolve().as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=os.environ.copy())
