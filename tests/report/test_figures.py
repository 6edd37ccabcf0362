"""Figures of a run: their numbers against scikit-learn, and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import attrs
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_curve, precision_score, recall_score, roc_curve

from imgcls import Run
from imgcls.core.errors import ConfigError
from imgcls.evaluation.predictions import Predictions, softmax
from imgcls.report.charts import draw_confusion
from imgcls.report.curves import Curve, precision_recall, roc, shown_classes, sweep
from imgcls.report.drawing import Drawing
from imgcls.report.figures import draw_precision_recall, draw_roc
from imgcls.report.gallery import FIGURES
from imgcls.report.summaries import confusion_rates, score_histogram


def of_classes(*classes: str, count: int = 60, groups: int | None = None) -> Predictions:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % len(classes)
    logits = np.round(rng.normal(size=(count, len(classes))) + np.eye(len(classes))[labels], 1)  # with ties
    return Predictions(
        ids=np.arange(count).astype(str),
        labels=labels,
        logits=logits,
        probs=softmax(logits),
        groups=None if groups is None else rng.integers(groups, size=count).astype(str),
        fold=labels * 0,
        split="test",
        classes=classes,
        positive=classes[1] if len(classes) == 2 else None,
    )


def test_curves_are_those_of_scikit_learn() -> None:
    given = of_classes("no", "yes")
    found = roc(given, resamples=0)
    fpr, tpr, cuts = roc_curve(given.labels, given.scores, drop_intermediate=False)
    np.testing.assert_allclose([found.x, found.y, found.thresholds], [fpr, tpr, cuts])
    precision, recall, _ = precision_recall_curve(given.labels, given.scores)
    curve = precision_recall(given, resamples=0)
    np.testing.assert_allclose(curve.x, recall[::-1])
    np.testing.assert_allclose(curve.y[1:], precision[::-1][1:])
    assert np.isnan(curve.low).all()


@pytest.mark.parametrize("curve", [roc, precision_recall])
def test_bands_hold_the_curve_and_are_resampled_by_group(curve: Callable[..., Curve]) -> None:
    plain = of_classes("no", "yes", count=80)
    copied = plain.take(np.repeat(np.arange(80), 9))  # nine copies tell no more than one
    together, apart = curve(attrs.evolve(copied, groups=copied.ids)), curve(copied.take(np.argsort(copied.ids)))
    alone = curve(attrs.evolve(copied, ids=np.arange(len(copied)).astype(str)))
    widths = [np.nanmean(found.high - found.low) for found in (curve(plain), together, apart, alone)]
    np.testing.assert_allclose(widths[1:3], widths[0], rtol=0.1)
    assert widths[3] < 0.5 * widths[0]
    height = np.interp(together.grid, together.x, together.y)
    assert ((together.low <= height + 0.02) & (height <= together.high + 0.02)).mean() > 0.9


def test_a_sweep_counts_as_scikit_learn_does() -> None:
    given = of_classes("no", "yes", groups=10)
    found = sweep(given, thresholds=np.array([0.2, 0.5, 0.7]), resamples=50)
    for at, cut in enumerate(found.thresholds):
        called = given.scores >= cut
        assert (found.hits[at], found.alarms[at]) == (called[given.has(1)].sum(), called[given.has(0)].sum())
        assert found.values["sensitivity"][at] == pytest.approx(recall_score(given.labels, called))
        assert found.values["ppv"][at] == pytest.approx(precision_score(given.labels, called))
    for name in ("sensitivity", "specificity", "ppv"):
        assert (found.low[name] <= found.values[name]).all()
        assert (found.values[name] <= found.high[name]).all()


@pytest.mark.parametrize("classes", [("no", "yes"), ("a", "b", "c")])
def test_rates_are_shares_of_the_true_class_with_intervals(classes: tuple[str, ...]) -> None:
    given = of_classes(*classes, groups=12)
    found = confusion_rates(given, resamples=100)
    wanted = confusion_matrix(given.labels, given.probs.argmax(axis=1))
    np.testing.assert_array_equal(found.counts, wanted)
    np.testing.assert_allclose(found.rates, wanted / wanted.sum(axis=1, keepdims=True))
    assert ((found.low <= found.rates) & (found.rates <= found.high)).all()


def test_the_positive_class_is_last_with_its_own_interval() -> None:
    given = of_classes("no", "yes", groups=12)
    turned = confusion_rates(attrs.evolve(given, positive="no"), resamples=100)
    plain = confusion_rates(given, resamples=100)
    assert turned.classes == ("yes", "no")
    np.testing.assert_array_equal(turned.counts, plain.counts[::-1, ::-1])
    np.testing.assert_allclose(turned.low, plain.low[::-1, ::-1])


def test_histograms_count_every_record_once() -> None:
    found = score_histogram(of_classes("no", "yes"))
    assert [int(counts.sum()) for counts in found.counts.values()] == [30, 30]


def test_a_run_has_figures_that_are_asked_for_by_name(run: Run, tmp_path: Path) -> None:
    assert {path.stem for path in run.figures(tmp_path)} == {*FIGURES} - {"forest"} | {"forest_roc_auc"}
    drawn = run.figure("roc")
    assert drawn.data[0].class_name == run.model.positive
    assert drawn.save(tmp_path / "roc.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ConfigError, match=r"'name' must be one of roc, .* did you mean 'roc'"):
        run.figure("rock")
    with pytest.raises(ConfigError, match=r"'path' must end in \.svg, \.png or \.pdf"):
        drawn.save(tmp_path / "roc.doc")


def test_the_learning_curves_mark_the_epoch_that_was_kept(run: Run) -> None:
    found = run.figure("learning").data
    kept = run.history[run.history["best"] == 1].groupby("fold")["epoch"].max() + 1
    assert {fold.fold: fold.kept for fold in found.folds} == kept.to_dict()


def test_the_forest_shows_the_numbers_of_the_run(run: Run) -> None:
    found = run.figure("forest").data
    assert found.names[0] == "all"
    assert (found.values[0], found.low[0], found.high[0]) == run.value("roc_auc")
    assert {"fold 0", "fold 1", "all, by group"} <= set(found.names)


def texts_of(drawn: Drawing) -> list[str]:
    return ["".join(item.itertext()).strip() for item in ET.fromstring(drawn.svg).iterfind(".//{*}text")]


@pytest.mark.parametrize("classes", [("a", r"$\frac$"), ("_hidden", r"$\frac$", 'a & <b> "c"'), ("no", "_" * 90)])
def test_any_name_of_a_class_is_drawn_as_it_is(classes: tuple[str, ...]) -> None:
    given = of_classes(*classes)
    curves = [roc(given, classes[index], resamples=0) for index in shown_classes(given)]
    named = texts_of(draw_roc(curves))
    ticks = texts_of(draw_confusion(confusion_rates(given, resamples=0)))
    for name in classes:
        short = name if len(name) < 28 else name[:27] + "…"
        assert (short in named) == (len(classes) > 2 or name == classes[1])
        assert ticks.count(short) == 2


def test_of_many_classes_a_legend_names_the_first() -> None:
    classes = [f"class {number}" for number in range(40)]
    given = of_classes(*classes, count=120)
    curves = [precision_recall(given, classes[index], resamples=0) for index in shown_classes(given)]
    named = texts_of(draw_precision_recall(curves))
    assert [name for name in named if name in classes] == classes[:12]
    assert "first 12 of 40 classes" in named
    assert set(classes) < set(texts_of(draw_confusion(confusion_rates(given))))


def test_a_class_without_records_has_no_curve() -> None:
    several = of_classes("x", "y", "z")
    without = several.take(np.flatnonzero(several.labels != 1))
    assert shown_classes(without) == [0, 2]
    with pytest.raises(ConfigError, match="be a class that some records have and some lack, got 'y'"):
        roc(without, "y")
