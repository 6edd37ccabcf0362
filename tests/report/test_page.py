"""The HTML page of a run."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import attrs
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgcls import Run
from imgcls.core.errors import RunError
from imgcls.report.material import Material
from imgcls.report.page import write_page
from imgcls.report.pictures import Album
from imgcls.report.words import cautions, verdict


class Reader(HTMLParser):
    """Gathers what accessibility depends on."""

    void = frozenset({"meta", "img", "br", "link", "hr", "path", "use", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.images: list[str | None] = []
        self.labelled: set[str | None] = set()
        self.inputs: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.ids += [str(told["id"])] if "id" in told else []
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.images += [told.get("alt")] if tag == "img" else []
        self.images += [told.get("aria-label")] if tag == "svg" else []
        self.labelled |= {told.get("for")} if tag == "label" else set()
        self.inputs += [told.get("id")] if tag == "input" else []
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


def test_page_makes_no_request_to_others(page: str) -> None:
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "default-src 'none'" in page
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert not re.search(r"@import|url\((?!#)|fetch\(|https?://", without_names)
    assert len(page) < 10e6


def test_page_can_be_read_by_all(page: str) -> None:
    found = Reader(page)
    assert not found.open
    assert len(found.ids) == len(set(found.ids))
    assert found.headings[0] == 1
    assert found.headings.count(1) == 1
    assert max(np.diff(found.headings)) <= 1  # no level is left out
    assert all(found.images)
    assert set(found.inputs) <= found.labelled
    assert set(re.findall(r'href="#([\w-]+)"', page)) <= set(found.ids)


def test_page_says_the_numbers_of_the_run(page: str, run: Run) -> None:
    value, low, high = run.value("roc_auc")
    assert f"<td>{value:.3f} ({low:.3f} to {high:.3f})</td>" in page
    for threshold in run.thresholds:
        assert threshold.rule != run.model.decision or f'<td class="n">{threshold.value:.4f}</td>' in page
    assert run.facts["fingerprint"][:16] in page
    for reached in run.baselines()["value"]:
        assert f"<td>{reached:.3f}" in page
    for row in json.loads((run.folder / "splits.json").read_text())["balance"]:
        assert f'<td class="n">{row["largest_deviation"]:.3f}</td></tr>' in page


def test_the_verdict_says_what_the_numbers_stand_for(page: str, run: Run) -> None:
    assert "<p>On 60 test images of 15 groups, each record by the fold that did not train on it: area" in page
    assert "<p>Predict applies the mean of the folds, which these numbers do not measure.</p>" in page
    assert "so their numbers flatter; this run used its test numbers for nothing." in page
    found, _, _ = run.value("sensitivity", threshold=run.model.decision)
    assert f"of 100 records with b it finds {100 * found:.0f} (" in page


def test_a_figure_of_each_kind_is_there(page: str) -> None:
    for title in ("ROC curve", "Precision and recall", "Confusion matrix", "Reliability", "Risk and coverage"):
        assert f"<h3>{title}</h3>" in page


def test_explained_images_and_samples_are_shown(page: str, run: Run) -> None:
    index = pd.read_csv(run.folder / "attributions" / "grad-cam-test" / "index.csv", dtype=str)
    assert all(name in page for name in index["id"])
    assert page.count('"data:image/png') == len(index)  # a panel that shows an error is not shown again
    assert "<h3>Some records of a</h3>" in page
    assert page.count('<figure class="record"><img src="data:image/jpeg') >= 12


def changed(material: Material, metric: str, **numbers: float | str) -> Material:
    assert material.metrics is not None
    table = material.metrics.copy()
    table.loc[table["metric"] == metric, list(numbers)] = list(numbers.values())
    return attrs.evolve(material, metrics=table)


def test_numbers_that_do_not_exist_are_said_in_words(material: Material) -> None:
    given = changed(material, "average_precision", value=0.75, low=0.5, high=1.0)
    assert verdict(given)[0].endswith("; average precision 0.750 (95 % interval 0.500 to 1.000).")
    lone = changed(material, "average_precision", value=0.75, low=np.nan, high=np.nan, note="no interval: why")
    assert verdict(lone)[0].endswith("; average precision 0.750 (no interval: why).")
    void = changed(material, "average_precision", value=np.nan, low=np.nan, high=np.nan, note="no record of class 'b'")
    assert verdict(void)[0].endswith("; average precision: not defined (no record of class 'b').")


def test_validation_unlike_the_set_is_said(material: Material) -> None:
    rows = [{"split": "val", "largest_deviation": 0.05}, {"split": "test", "largest_deviation": 0.3}]
    alike = attrs.evolve(material, splits={"balance": rows})
    assert not any("differs by" in line for line in verdict(alike))
    unlike = attrs.evolve(material, splits={"balance": [{"split": "val", "largest_deviation": 0.31}]})
    assert any("differs by up to 0.31" in line and "are not those of the set" in line for line in verdict(unlike))
    restored = attrs.evolve(unlike, evaluation={**material.evaluation, "population": {"a": 0.5, "b": 0.5}})
    assert any("count each class as often as there is outside of test" in line for line in verdict(restored))


def texts(material: Material) -> str:
    return " ".join(caution.text for caution in cautions(material))


def test_what_gives_cause_to_doubt_is_said_first(material: Material) -> None:
    assert "fast run" in texts(attrs.evolve(material, config="fast_run: true"))
    splits = {**material.splits, "folds": [{"train": ["1"], "val": ["2"], "test": ["3"]}]}
    manifest = attrs.evolve(material, splits=splits).manifest
    assert manifest is not None
    torn = manifest.head(3).assign(id=["1", "2", "3"], group=["p", "q", "p"])
    leaking = attrs.evolve(material, splits=splits, manifest=torn)
    assert "1 groups are in train and in test of one fold (p), so numbers flatter." in texts(leaking)
    assert cautions(leaking)[0].grade == "error"
    assert material.final is not None
    same = attrs.evolve(material.final, probs=np.tile([0.0, 1.0], (len(material.final), 1)))
    assert "collapsed to one class" in texts(attrs.evolve(material, tested=same))
    shifted = changed(material, "specificity", value=0.9, low=0.85, high=0.95)
    table = shifted.metrics
    assert table is not None
    table.loc[(table["metric"] == "specificity") & (table["split"] == "test"), ["value", "low", "high"]] = [
        0.5,
        0.4,
        0.6,
    ]
    rule = material.decision
    pooled = table[(table["split"] == "val") & (table["threshold"] == rule)].assign(fold="all")
    moved = attrs.evolve(shifted, metrics=type(table)(table.to_dict("records") + pooled.to_dict("records")))
    assert "specificity is 0.900 on validation records and 0.500 on test" in texts(moved)


def test_names_cannot_inject_markup(material: Material, tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(1)<"
    shutil.copytree(material.folder, folder)
    page = write_page(tmp_path / "page.html", Material.read(folder)).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.folder, tmp_path / "copy"))


def written(folder: Path) -> str:
    page = write_page(folder / "report.html", Material.read(folder)).read_text(encoding="utf-8")
    assert not Reader(page).open
    return page


def test_an_unfinished_run_shows_what_there_is(copy: Path) -> None:
    for name in ("run.json", "metrics.csv", "evaluation.json", "thresholds.json", "predictions_test.npz"):
        (copy / name).unlink()
    shutil.rmtree(copy / "fold_1")
    page = written(copy)
    assert "The run is not finished. Missing so far: " in page
    assert "There are no numbers yet: 1 of 2 folds have begun to train." in page
    assert "Validation predictions of 1 of 2 folds are missing." in page
    assert 'aria-label="Learning curves.' in page
    assert "validation records, which chose the checkpoint" in page


def test_a_run_that_has_just_begun_shows_its_plan(copy: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    for name in ("config.yaml", "splits.json", "environment.json", "manifest.csv", "model.json"):
        shutil.copy(copy / name, begun / name)
    page = written(begun)
    assert "There are no numbers yet: 0 of 2 folds have begun to train." in page
    assert "small-cnn" in page
    assert "<svg" not in page


@pytest.mark.parametrize(
    "name", ["metrics.csv", "evaluation.json", "predictions_test.npz", "splits.json", "manifest.csv", "run.json"]
)
@pytest.mark.parametrize("content", [b"", b"\x00\xffno", b"[1]", b"a,b\n1,2\n"])
def test_a_damaged_file_is_named_and_the_rest_is_shown(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    page = written(copy)
    assert name in page
    assert "an unfinished or damaged run" in page
    assert 'aria-label="Reliability.' in page


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="'folder' must be that of a run"):
        Material.read(tmp_path)


def test_a_check_of_the_pixels_is_told_of(run: Run) -> None:
    assert "The pixels were not compared" in run.report().read_text(encoding="utf-8")
    checked = run.report(check=True).read_text(encoding="utf-8")
    assert "All pixels were compared: " in checked


def _plots(search: Path) -> Path:
    (search / "plots").mkdir()
    return search / "plots"


def test_the_search_of_a_run_is_told_of(copy: Path) -> None:
    facts = {"monitor": "roc_auc", "direction": "maximize", "best": 1, "states": {"complete": 2}, "importance": {}}
    luck = {"value": 0.91, "bias": 0.02, "corrected": 0.89, "method": "over folds"}
    (copy.parent / "search.json").write_text(json.dumps(facts | {"optimism": luck}))
    (copy.parent / "trials.csv").write_text(
        "number,state,stages.0.lr,value,reason\n0,complete,0.1,0.8,\n1,complete,0.2,0.91,\n"
    )
    Image.new("RGB", (40, 30)).save(_plots(copy.parent) / "importance.png")
    page = written(copy)
    assert re.findall(r'<img src="data:image/png;base64,[^"]+" alt="How much of the differences', page)
    assert "over each parameter" not in page
    assert "trial 1 won" in page
    assert "about 0.0200 of it is luck (over folds)" in page
    assert page.index("<td>0.91</td>") < page.index("<td>0.8</td>")
    (copy.parent / "search.json").write_text("{")
    assert "trial 1 won" not in written(copy)


def test_pictures_end_where_the_room_does(run: Run) -> None:
    album = Album(room=1500)
    found = [album.record(run.data, position, "a record") for position in range(8)]
    assert 0 < sum(picture is not None for picture in found) < 8
    assert album.left_out == sum(picture is None for picture in found)
    assert sum(len(picture.source) for picture in found if picture is not None) + album.room == 1500
