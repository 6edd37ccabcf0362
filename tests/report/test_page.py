"""The HTML page of a run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import attrs
import numpy as np
import pytest
from sklearn.metrics import roc_curve

from imgcls import ImageSpec, Run, Stage, Trainer
from imgcls.evaluation.predictions import Predictions, softmax
from imgcls.report.figures import _cumulated, confusion_figure, curves_figure
from imgcls.report.page import Content, _verdict, write_page
from imgcls.testing import blobs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Trainer(
        blobs(),
        backbone={"name": "small-cnn", "base": 4, "depth": 2},
        image=ImageSpec(size=16, channels=1),
        splitter={"name": "stratified-group-kfold", "k": 2},
        stages=[Stage(epochs=2, lr=1e-2)],
        precision="fp32",
        out=str(tmp_path_factory.mktemp("report") / "run"),
    ).fit()
    run.explain("grad-cam", limit=2)
    return run


@pytest.fixture(scope="module")
def content(run: Run) -> Content:
    found: list[Content] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imgcls.run.write_page", lambda _, value: found.append(value))
        run.report()
    return found[0]


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return run.report().read_text(encoding="utf-8")


def test_page_makes_no_request_to_others(page: str) -> None:
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "@import" not in page


def test_page_says_the_numbers_of_the_run(page: str, run: Run) -> None:
    value, low, high = run.value("roc_auc", split="val")
    assert all(f'<td class="n">{number:.3f}</td>' in page for number in (value, low, high) if number == number)
    assert run.facts["fingerprint"][:16] in page


def test_the_verdict_says_what_the_numbers_stand_for(page: str) -> None:
    assert "<p>On 60 test images of 15 groups, each record by the fold that did not train on it: average" in page
    assert "<p>Predict applies the mean of the folds, which these numbers do not measure.</p>" in page
    assert "so they flatter; this run used its test numbers for nothing.</p>" in page


def changed(content: Content, metric: str, **numbers: float) -> Content:
    table = content.metrics.copy()
    table.loc[table["metric"] == metric, list(numbers)] = list(numbers.values())
    return attrs.evolve(content, metrics=table)


def test_numbers_that_do_not_exist_are_said_in_words(content: Content) -> None:
    given = changed(content, "average_precision", value=0.75, low=0.5, high=1.0)
    assert ": average precision 0.750 (95 % interval 0.500 to 1.000)." in _verdict(given)[0]
    lone = changed(content, "average_precision", value=0.75, low=np.nan, high=np.nan)
    assert ": average precision 0.750 (no interval: too few groups)." in _verdict(lone)[0]
    perfect = changed(content, "average_precision", value=1.0, low=np.nan, high=np.nan)
    assert ": average precision 1.000 (no interval: it is the same in every resample)." in _verdict(perfect)[0]
    void = changed(content, "average_precision", value=np.nan, low=np.nan, high=np.nan)
    assert ": average precision: not defined, the test records lack a class." in _verdict(void)[0]


def test_numbers_of_a_run_without_test_are_called_flattering(content: Content, tmp_path: Path) -> None:
    said = "used for selection: there are no test records, and these validation numbers also chose the checkpoint"
    evaluation = {**content.evaluation, "selection": said}
    alone = attrs.evolve(content, predictions=attrs.evolve(content.predictions, split="val"), evaluation=evaluation)
    write_page(tmp_path / "page.html", alone)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"<p>U{said[1:]}.</p>" in page
    assert "<td>val (used for selection)</td>" in page
    assert "for nothing" not in page


def test_page_is_balanced_html_with_unique_ids(page: str) -> None:
    class Balance(HTMLParser):
        void = frozenset({"meta", "img", "br", "link", "hr", "path", "use"})

        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.ids: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.ids += [value for name, value in attrs if name == "id" and value]
            if tag not in self.void:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in self.void:
                assert self.open.pop() == tag

    parser = Balance()
    parser.feed(page)
    assert not parser.open
    assert len(parser.ids) == len(set(parser.ids))


def test_names_cannot_inject_markup(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page(path, attrs.evolve(content, name="<script>alert(1)</script>"))
    assert "<script>" not in path.read_text(encoding="utf-8")


def texts_of(figure: str) -> list[str]:
    return ["".join(item.itertext()).strip() for item in ET.fromstring(figure).iterfind(".//{*}text")]


def of_classes(*classes: str) -> Predictions:
    labels = np.arange(3 * len(classes)) % len(classes)
    logits = np.random.default_rng(0).normal(size=(len(labels), len(classes)))
    return Predictions(
        ids=labels.astype(str),
        labels=labels,
        logits=logits,
        probs=softmax(logits),
        fold=labels * 0,
        split="test",
        classes=classes,
        positive=classes[1] if len(classes) == 2 else None,
    )


@pytest.mark.parametrize("classes", [("a", r"$\frac$"), ("_hidden", r"$\frac$", "a & <b>"), ("no", "_" * 90)])
def test_any_name_of_a_class_is_drawn_as_it_is(classes: tuple[str, ...]) -> None:
    named = texts_of(curves_figure(of_classes(*classes)))
    ticks = texts_of(confusion_figure(np.eye(len(classes), dtype=int).tolist(), list(classes)))
    for name in classes:
        short = name if len(name) < 28 else name[:27] + "…"
        assert (short in named) == (len(classes) > 2 or name == classes[1])
        assert ticks.count(short) == 2


def test_of_many_classes_a_legend_names_the_first() -> None:
    classes = [f"class {number}" for number in range(40)]
    named = texts_of(curves_figure(of_classes(*classes)))
    assert [name for name in named if name in classes] == classes[:12]
    assert "first 12 of 40 classes" in named
    assert set(classes) < set(texts_of(confusion_figure(np.eye(40, dtype=int).tolist(), classes)))


def test_a_class_without_records_has_no_curve() -> None:
    several = of_classes("x", "y", "z")
    named = texts_of(curves_figure(several.take(np.flatnonzero(several.labels != 1))))
    assert (named.count("x"), named.count("y")) == (1, 0)
    assert "ROC" in texts_of(curves_figure(several.take(np.flatnonzero(several.labels == 1))))


def test_curve_points_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random(60) < 0.4, rng.integers(0, 20, 60) / 20
    hits, alarms = _cumulated(truth, scores)
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(np.append(0, hits / truth.sum()), tpr)
    np.testing.assert_allclose(np.append(0, alarms / (~truth).sum()), fpr)


def test_validation_unlike_the_set_is_said(content: Content) -> None:
    rows = [{"split": "val", "largest_deviation": 0.05}, {"split": "test", "largest_deviation": 0.3}]
    alike = attrs.evolve(content, balance=rows)
    assert not any("differs by" in line for line in _verdict(alike))
    unlike = attrs.evolve(content, balance=[{"split": "val", "largest_deviation": 0.31}])
    assert any("differs by up to 0.31" in line and "are not those of the set" in line for line in _verdict(unlike))
    restored = attrs.evolve(unlike, evaluation={**content.evaluation, "population": {"a": 0.5, "b": 0.5}})
    assert any("count each class as often as there is outside of test" in line for line in _verdict(restored))


def test_the_balance_of_each_part_is_shown(page: str, content: Content) -> None:
    for row in content.balance:
        assert f'<td class="n">{row["largest_deviation"]:.3f}</td></tr>' in page
