"""Sets whose records have several labels, or none, from training to the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn import metrics as sk
from torch.nn import functional

from imgcls import Dataset, Run, Trainer, load_run
from imgcls.core.errors import ConfigError, DataError, SplitError
from imgcls.evaluation.evaluate import evaluate
from imgcls.evaluation.predictions import probabilities
from imgcls.testing import blobs
from imgcls.training.events import EpochEnd
from imgcls.training.losses import training_loss

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("bar", "square", "stripes")
SMALL: Mapping[str, Any] = {
    "backbone": {"name": "small-cnn", "base": 8, "depth": 2},
    "balancer": {"loss": "bce"},
    "image": {"size": 16, "channels": 1},
    "splitter": {"name": "stratified-group-kfold", "k": 2},
    "stages": [{"epochs": 1, "lr": 0.02}],
    "batch_size": 16,
    "device": "cpu",
    "precision": "fp32",
}


def drawn(num: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((num, 3)) < [0.3, 0.5, 0.4]).astype(np.int64)
    images = rng.integers(0, 90, (num, 16, 16)).astype(np.uint8)
    for image, (bar, square, stripes) in zip(images, labels, strict=True):
        image[1:15, 14] = 230 if bar else image[1:15, 14]
        image[2:7, 2:7] = 230 if square else image[2:7, 2:7]
        image[9:14, 2:12:2] = 230 if stripes else image[9:14, 2:12:2]
    return images, labels


def shapes(num: int = 120, *, seed: int = 0, prefix: str = "g") -> Dataset:
    """Shapes that are present independently of each other, two images a group."""
    images, labels = drawn(num, seed)
    groups = [f"{prefix}{number // 2:03d}" for number in range(num)]
    return Dataset.from_arrays(images, labels, groups=groups, classes=CLASSES)


def shape_files(folder: Path, num: int = 60) -> Dataset:
    images, labels = drawn(num, 1)
    names = ["|".join(np.array(CLASSES)[marks == 1]) for marks in labels]
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    frame = {"image": [f"{number:03d}.png" for number in range(num)], "label": names}
    pd.DataFrame(frame | {"patient": [f"p{n // 2}" for n in range(num)]}).to_csv(folder / "index.csv", index=False)
    return Dataset.from_csv(folder / "index.csv", root=folder, group="patient", classes=CLASSES, label_separator="|")


def trainer(data: Dataset, **changes: Any) -> Trainer:
    return Trainer(data, **{**SMALL, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("several")
    data = shape_files(folder, num=160)
    return trainer(data, stages=[{"epochs": 10, "lr": 0.03}], out=folder / "run").fit()


# From training to predictions


def test_independent_shapes_are_learnt(run: Run) -> None:
    assert run.facts["monitor"] == "average_precision"
    assert run.value("roc_auc")[0] > 0.95
    table = run.metrics[(run.metrics["fold"] == "all") & (run.metrics["split"] == "test")]
    found = table[(table["metric"] == "roc_auc") & (table["level"] == "image")].set_index("class")["value"]
    assert list(found.index) == ["", *CLASSES]
    assert (found > 0.9).all()


def test_the_numbers_of_a_run_are_those_of_its_predictions(run: Run) -> None:
    found = run.predictions("test")
    np.testing.assert_allclose(found.probs, 1 / (1 + np.exp(-found.logits.astype(float))))
    assert run.value("average_precision")[0] == pytest.approx(sk.average_precision_score(found.labels, found.probs))
    cuts = {(t.model, t.class_name): t.value for t in run.thresholds if t.rule == "max_f1"}
    preds = found.probs >= [[cuts[str(fold), name] for name in CLASSES] for fold in found.fold]
    assert run.value("exact_match", threshold="max_f1")[0] == pytest.approx(sk.accuracy_score(found.labels, preds))
    assert json.loads((run.folder / "evaluation.json").read_text())["confusion"]["max_f1"] == (
        sk.multilabel_confusion_matrix(found.labels, preds).tolist()
    )


def test_the_history_says_what_evaluation_says_of_the_kept_weights(run: Run) -> None:
    val = run.predictions("val")
    kept = run.history[run.history["best"] == 1].groupby("fold").last()
    for fold, row in kept.iterrows():
        table = evaluate(val.take(val.fold == fold), resamples=0)
        own = table[(table["class"] == "") & (table["threshold"] == "")].set_index("metric")["value"]
        for name in ("loss", "accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "average_precision"):
            assert row[f"val_{name}"] == pytest.approx(own[name], abs=1e-4), name


def test_a_run_is_opened_again_from_its_folder(run: Run) -> None:
    again = load_run(run.folder)
    np.testing.assert_array_equal(again.predictions("test").labels, run.predictions("test").labels)
    np.testing.assert_array_equal(again.data.labels, run.data.labels)
    assert (again.data.multilabel, again.model.multilabel) == (True, True)
    assert trainer(run.data, stages=[{"epochs": 10, "lr": 0.03}], out=run.folder).fit().folder == run.folder


def test_predict_names_every_label_that_reaches_its_threshold(run: Run) -> None:
    root = run.data.root
    assert root is not None
    paths = [root / name for name in run.data.ids[:8]]
    table = run.predict(paths)
    assert list(table.columns) == ["path", *(f"prob_{name}" for name in CLASSES), "decision", "spread"]
    cuts = {t.class_name: t.value for t in run.thresholds if (t.rule, t.model) == ("max_f1", "mean")}
    for row in table.to_dict("records"):
        assert row["decision"] == "|".join(name for name in CLASSES if row[f"prob_{name}"] >= cuts[name])
    assert set(run.predict(paths, threshold=0.0)["decision"]) == {"bar|square|stripes"}
    assert set(run.predict(paths, threshold=1.0)["decision"]) == {""}
    with pytest.raises(ConfigError, match=r"'threshold' must be fitted in the run, got 'sensitivity>=0\.5'"):
        run.predict(paths, threshold="sensitivity>=0.5")


def test_the_most_probable_label_or_a_named_one_is_explained(run: Run) -> None:
    found = run.explain(limit=3)
    chosen = [0, 79, 159]
    assert found.target.tolist() == run.predictions().probs[chosen].argmax(axis=1).tolist()
    assert set(run.explain(limit=3, target="stripes").target.tolist()) == {2}
    with pytest.raises(ConfigError, match="'target' must be a class, got 'stripe'; did you mean 'stripes'"):
        run.explain(limit=3, target="stripe")
    assert ", map of stripes, p = " in run.report().read_text(encoding="utf-8").replace("(", ", ")


def test_the_page_has_a_row_a_class_and_no_confusion_matrix(run: Run) -> None:
    page = run.report().read_text(encoding="utf-8")
    value, low, high = (
        run.metrics[
            (run.metrics["class"] == "bar")
            & (run.metrics["metric"] == "roc_auc")
            & (run.metrics["fold"] == "all")
            & (run.metrics["split"] == "test")
        ][["value", "low", "high"]]
        .to_numpy()[0]
        .tolist()
    )
    shown = f"{value:.3f} ({low:.3f} to {high:.3f})" if low == low else f"{value:.3f}"
    assert f'<tr><td>bar</td><td class="n">{run.data.counts()["bar"]}</td><td class="n">{shown}</td>' in page
    assert "Confusion matrix" not in page
    assert "Decided by the rule max_f1, each class by a threshold of its own: f1 macro" in page


def test_hard_errors_name_what_is_wrong(run: Run) -> None:
    table = pd.read_csv(run.folder / "hard_errors.csv", keep_default_na=False)
    for row in table.to_dict("records"):
        wrong = set(row["y_true"].split("|")) ^ set(row["y_pred"].split("|"))
        assert {part[3:] for part in row["error_type"].split(", ")} == wrong - {""}


# Other ways to train


@pytest.mark.parametrize(
    "changes",
    [
        {"augment": [{"name": "mixup"}, {"name": "cutmix"}]},
        {"balancer": {"loss": "bce", "pos_weight": "inverse"}},
        {"balancer": {"loss": "bce", "sampler": "weighted"}, "decision": 0.4},
        {"stages": [{"epochs": 1, "lr": 0.02, "train": "head"}], "monitor": "loss"},
        {"splitter": {"name": "stratified-group-kfold", "k": 2, "report": "val"}, "monitor": "f1_macro"},
    ],
)
def test_what_fits_several_labels_trains(changes: dict[str, Any], tmp_path: Path) -> None:
    run = trainer(shapes(60), **changes, out=tmp_path / "run").fit()
    assert run.predictions("val").multilabel
    assert run.report().exists()


def test_a_fixed_test_set_is_predicted_by_the_mean_of_the_folds(tmp_path: Path) -> None:
    other = shapes(40, seed=5, prefix="t")
    run = trainer(shapes(60), test=other, out=tmp_path / "run").fit()
    np.testing.assert_array_equal(run.predictions("test").labels, other.labels)
    assert set(run.predictions("test").fold) == {-1}


def test_mixed_images_have_mixed_labels() -> None:
    own = (
        trainer(shapes(8), augment=[{"name": "mixup", "alpha": 1.0}]).full_stages[0].augmenter(CLASSES, multilabel=True)
    )
    from imgcls.augment.table import Rows

    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    images = labels.mean(dim=1)[:, None, None, None].expand(2, 1, 16, 16).contiguous()
    mixed, targets = own.mix(images, labels, Rows(seed=0, epoch=0, numbers=np.arange(2)))
    torch.testing.assert_close(targets.mean(dim=1), mixed[:, 0, 0, 0])
    assert ((targets > 0) & (targets < 1)).any()


def test_a_run_that_was_cut_short_ends_with_the_same_predictions(tmp_path: Path) -> None:
    def cut(event: object) -> None:
        if isinstance(event, EpochEnd) and event.fold == 1:
            raise RuntimeError("cut")

    own = {"stages": [{"epochs": 2, "lr": 0.02}], "augment": [{"name": "mixup"}]}
    whole = trainer(shapes(40), **own, out=tmp_path / "whole").fit()
    with pytest.raises(RuntimeError, match="cut"):
        trainer(shapes(40), **own, out=tmp_path / "cut", callbacks=[cut]).fit()
    again = trainer(shapes(40), **own, out=tmp_path / "cut").fit()
    for split in ("val", "test"):
        np.testing.assert_array_equal(again.predictions(split).logits, whole.predictions(split).logits)
    assert again.thresholds == whole.thresholds


# What does not fit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"balancer": {}},
            "'balancer.loss' must be 'bce' where .*several labels, got 'cross-entropy'; say balancer={'loss': 'bce'}",
        ),
        ({"balancer": {"loss": "focal"}}, "must be 'bce' where records have several labels, got 'focal'"),
        (
            {"augment": {"default": None, "bar": "light"}},
            "'.*augment' must be one for all records where they have several",
        ),
        (
            {"balancer": {"loss": "bce", "sampler": "balanced-batch"}},
            "must be one that draws records of several labels",
        ),
        ({"monitor": "hter"}, "'monitor' must be a metric for any number of classes, got 'hter'"),
    ],
)
def test_options_for_one_label_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer(shapes(20), **changes)


def test_a_test_set_of_one_label_a_record_is_refused() -> None:
    images, labels = drawn(12, 9)
    one = Dataset.from_arrays(images, np.array(CLASSES)[labels.argmax(axis=1)], classes=CLASSES)
    with pytest.raises(DataError, match="'test' must have labels like those of 'data', got one a record in 'test'"):
        trainer(shapes(20), test=one)


def test_a_rare_label_may_be_absent_from_validation_but_not_all(tmp_path: Path) -> None:
    images, labels = drawn(60, 2)
    splits = np.repeat(["train", "val", "test"], 20)
    labels[splits != "train", 0] = 0
    rare = Dataset.from_arrays(images, labels, classes=CLASSES, splits=splits)
    run = trainer(rare, splitter="predefined", out=tmp_path / "run").fit()
    assert {(t.value, t.num_positives) for t in run.thresholds if t.class_name == "bar"} == {(0.5, 0)}
    assert np.isfinite(run.history["val_average_precision"]).all()
    assert np.isfinite(run.value("average_precision")[0])
    assert "No validation record has bar, so 0.5 decides there." in run.report().read_text(encoding="utf-8")
    same = Dataset.from_arrays(images, np.ones_like(labels), classes=CLASSES)
    with pytest.raises(SplitError, match="fold 0 must validate on records with and without some label"):
        trainer(same, splitter="kfold").folds()


# One label: one logit or two


def test_one_logit_and_two_say_the_same_of_two_classes(tmp_path: Path) -> None:
    values = {}
    for loss in ("bce", "cross-entropy"):
        run = trainer(
            blobs(size=16), balancer={"loss": loss}, stages=[{"epochs": 12, "lr": 0.03}], out=tmp_path / loss
        ).fit()
        found = run.predictions("test")
        assert found.logits.shape == (60, 1 if loss == "bce" else 2)
        assert found.probs.shape == (60, 2)
        assert run.predict([]).columns.tolist() == ["path", "prob_a", "prob_b", "decision", "spread"]
        values[loss] = run.value("roc_auc")[0]
    assert values["bce"] > 0.95
    assert values["bce"] == pytest.approx(values["cross-entropy"], abs=0.05)


def test_one_logit_is_the_difference_of_two() -> None:
    logits, targets = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    one = logits[:, 1:] - logits[:, :1]
    np.testing.assert_allclose(probabilities(one.numpy()), probabilities(logits.numpy()), atol=1e-6)
    both = [training_loss(out, targets, loss=loss) for out, loss in ((one, "bce"), (logits, "cross-entropy"))]
    torch.testing.assert_close(*both)
    torch.testing.assert_close(both[1], functional.cross_entropy(logits, targets))


@pytest.mark.parametrize(("given", "column"), [("hter", "hter_best"), ("f1", "f1_best")])
def test_a_metric_at_the_best_threshold_chooses_the_checkpoint(given: str, column: str, tmp_path: Path) -> None:
    run = trainer(
        blobs(size=16), balancer={}, monitor=given, out=tmp_path / "run", stages=[{"epochs": 3, "lr": 0.02}]
    ).fit()
    assert run.facts["monitor"] == column
    best = run.history.groupby("fold")[f"val_{column}"]
    assert run.facts["objective"] == pytest.approx(list(best.min() if given == "hter" else best.max()))
    assert "taken at the best threshold of each epoch, so it flatters" in run.report().read_text(encoding="utf-8")


def test_a_metric_at_the_best_threshold_is_for_two_classes() -> None:
    assert attrs.evolve(trainer(blobs(size=16), balancer={}), monitor="hter").monitored == "hter_best"
    with pytest.raises(ConfigError, match="'monitor' must be a metric for any number of classes, got 'f1'"):
        trainer(blobs(classes=3), balancer={}, monitor="f1")
