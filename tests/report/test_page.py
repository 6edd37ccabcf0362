"""The HTML page of a run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from imgcls import ImageSpec, Run, Stage, Trainer
from imgcls.report.figures import _cumulated
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
def page(run: Run) -> str:
    return run.report().read_text(encoding="utf-8")


def test_page_makes_no_request_to_others(page: str) -> None:
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "@import" not in page


def test_page_says_the_numbers_of_the_run(page: str, run: Run) -> None:
    value, low, high = run.value("average_precision")
    assert f"{value:.3f} (95 % interval {low:.3f} to {high:.3f})" in page
    assert run.facts["fingerprint"][:16] in page


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


def test_names_cannot_inject_markup(run: Run, tmp_path: Path) -> None:
    import attrs

    from imgcls.report import page as module

    path = tmp_path / "page.html"
    content = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imgcls.run.write_page", lambda _, value: content.append(value))
        run.report()
    module.write_page(path, attrs.evolve(content[0], name="<script>alert(1)</script>"))
    assert "<script>" not in path.read_text(encoding="utf-8")


def test_curve_points_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random(60) < 0.4, rng.integers(0, 20, 60) / 20
    hits, alarms = _cumulated(truth, scores)
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(np.append(0, hits / truth.sum()), tpr)
    np.testing.assert_allclose(np.append(0, alarms / (~truth).sum()), fpr)
