"""Explanations of whole runs: which model explains what, scores, warnings, comparisons."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgcls import Dataset, Run, Trainer, compare_explanations, load_run
from imgcls.core.errors import ConfigError, DataError, RunError
from imgcls.explain.base import explainers
from imgcls.explain.mask_scores import MaskScores
from imgcls.inference.explaining import attributions_of
from imgcls.inference.predictor import normalised
from imgcls.report.explained import read_explained
from imgcls.testing import planted_patches

pytestmark = pytest.mark.usefixtures("one_thread")

Masks = dict[str, NDArray[np.bool_]]


def trained(data: Dataset, out: Path, **changes: Any) -> Run:
    options: dict[str, Any] = {
        "backbone": {"name": "small-cnn", "base": 8, "depth": 3},
        "image": {"size": 32, "channels": 1},
        "splitter": {"name": "stratified-group-kfold", "k": 3},
        "stages": [{"epochs": 8, "lr": 0.02}],
        "batch_size": 16,
        "device": "cpu",
        "precision": "fp32",
    }
    return Trainer(data, out=out, **{**options, **changes}).fit()


@pytest.fixture(scope="module", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("IMGCLS_QUIET", "1")
        yield


@pytest.fixture(scope="module")
def planted() -> tuple[Dataset, Masks]:
    return planted_patches(144, size=32, side=10, classes=2)


@pytest.fixture(scope="module")
def run(planted: tuple[Dataset, Masks], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three folds whose test part rotates, which learn where the patch is."""
    return trained(planted[0], tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    return load_run(shutil.copytree(run.folder, tmp_path / "copy"), data=run.data)


# Which model explains


def test_each_image_is_explained_by_the_model_that_did_not_see_it(run: Run) -> None:
    subject = run.subject("test").take(np.array([0, 60, 100, 143]))
    explainer, target = explainers.create("grad-cam"), np.array([1, 0, 1, 0])
    found = attributions_of(subject, explainer, target)
    assert set(subject.predictions.fold.tolist()) > {0}
    for at, (fold, position) in enumerate(zip(subject.predictions.fold, subject.positions, strict=True)):
        model = run.classifier(int(fold))
        image = normalised(np.stack([subject.pixels(int(position))]), model, run.model.image)
        np.testing.assert_allclose(found.maps[at], explainer.explain(model, image, int(target[at])).maps[0], atol=1e-6)


def test_a_fixed_test_is_explained_by_the_mean_map_of_the_folds(planted: tuple[Dataset, Masks], tmp_path: Path) -> None:
    fixed = trained(planted[0], tmp_path / "run", test=0.25, stages=[{"epochs": 2, "lr": 0.02}])
    subject = fixed.subject("test").take(np.array([0, 1, 2]))
    explainer, target = explainers.create("lrp-zennit"), np.array([1, 0, 1])
    found = attributions_of(subject, explainer, target)
    pixels = np.stack([subject.pixels(int(position)) for position in subject.positions])
    models = [fixed.classifier(fold) for fold in range(3)]
    each = [explainer.explain(model, normalised(pixels, model, fixed.model.image), target) for model in models]
    np.testing.assert_allclose(found.maps, np.mean([one.maps for one in each], axis=0), atol=1e-6)
    assert found.provenance["models"] == "mean of 3 folds"


# What is left on disk


def test_maps_are_scored_by_image_class_and_group(copy: Run, planted: tuple[Dataset, Masks]) -> None:
    found = copy.explain("lrp-zennit", limit=None, masks=planted[1])
    folder = copy.folder / "attributions" / "lrp-zennit-test-masks"
    rows = pd.read_csv(folder / "scores.csv", dtype={"id": str})
    expected = MaskScores().rows(found, np.stack([planted[1][name] for name in rows["id"]]))
    np.testing.assert_allclose(rows[list(MaskScores().names)], expected[list(MaskScores().names)])
    assert rows["id"].tolist() == copy.predictions("test").ids.tolist()
    means = pd.read_csv(folder / "score_means.csv", keep_default_na=False)
    assert set(means["by"]) == {"class", "group"}
    assert set(means["value"]) == {"", "turn0", "turn1", *map(str, set(rows["group"]))}
    mass = means[(means["value"] == "") & (means["metric"] == "mass")].iloc[0]
    assert float(mass["low"]) < float(mass["mean"]) < float(mass["high"])
    assert float(mass["mean"]) > 3 * rows["area"].mean()  # the network looks at the patch
    assert set(pd.read_csv(folder / "score_pixels.csv")["metric"]) > {"f1", "jaccard"}


def test_panels_name_probability_and_threshold_and_are_always_the_same(
    copy: Run, planted: tuple[Dataset, Masks]
) -> None:
    def panels() -> dict[str, bytes]:
        copy.explain("lrp-zennit", limit=4, masks=planted[1])
        folder = copy.folder / "attributions" / "lrp-zennit-test-masks"
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*/*.png")}

    first, second = panels(), panels()
    assert first == second
    assert len(first) == 4
    assert Image.open(io.BytesIO(next(iter(first.values())))).width > 5 * 192


def test_errors_go_to_folders_of_their_kind(planted: tuple[Dataset, Masks], tmp_path: Path) -> None:
    data, _ = planted
    weak = trained(data, tmp_path / "run", stages=[{"epochs": 1, "lr": 1e-4}])
    weak.explain("grad-cam", errors=True, limit=6)
    index = pd.read_csv(weak.folder / "attributions/grad-cam-test-errors/index.csv")
    kinds = np.where(index["decision"] == data.positive, "FP", "FN")
    assert [file.split("/")[0] for file in index["file"]] == kinds.tolist()
    assert (index["decision"] != index["label"]).all()


def test_masks_of_a_set_are_read_scored_and_chosen(planted: tuple[Dataset, Masks], tmp_path: Path) -> None:
    data, masks = planted
    root = tmp_path / "set"
    rows = []
    for at, name in enumerate(data.ids.tolist()):
        sample = data[at]
        for kind, pixels in (("image", sample.image[..., 0]), ("mask", masks[name] * np.uint8(255 * (at % 2)))):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / f"{name}.png")
        about = {"label": sample.label, "group": sample.group}
        rows.append({"image": f"image/{name}.png", "mask": f"mask/{name}.png", **about})
    pd.DataFrame(rows).to_csv(root / "index.csv", index=False)
    files = Dataset.from_csv(root / "index.csv", mask="mask", group="group")
    made = trained(files, tmp_path / "run", stages=[{"epochs": 1, "lr": 0.02}])
    made.explain("lrp-zennit", limit=12)
    every = pd.read_csv(made.folder / "attributions/lrp-zennit-test/scores.csv")
    assert set(every["state"]) >= {"scored", "empty mask"}
    made.explain("lrp-zennit", limit=12, masks=True)
    some = pd.read_csv(made.folder / "attributions/lrp-zennit-test-masks/scores.csv")
    assert "empty mask" not in set(some["state"])
    assert len(some) == 12
    made.explain("grad-cam", limit=2, masks=False)
    assert not (made.folder / "attributions/grad-cam-test/scores.csv").exists()


# Shortcuts


def test_a_planted_marker_warns_in_the_report_and_clean_data_do_not(
    copy: Run, planted: tuple[Dataset, Masks], tmp_path: Path
) -> None:
    data, masks = planted_patches(144, size=32, side=10, classes=2, marker=True)
    marked = trained(data, tmp_path / "run", splitter="holdout")
    for found, inside in ((marked, masks), (copy, planted[1])):
        assert found.value("accuracy")[0] > 0.9
        found.explain("lrp-zennit", limit=48, masks=inside)
    captions = [panel.caption for panel in read_explained(marked.folder).warned]
    assert any("'marked' is decided in the band along the border" in caption for caption in captions)
    assert any("'marked' is decided outside the plausible region" in caption for caption in captions)
    assert captions[0].replace("'", "&#39;") in marked.report().read_text(encoding="utf-8")
    assert not read_explained(copy.folder).warned


def test_a_box_takes_the_place_of_masks(copy: Run) -> None:
    copy.explain("lrp-zennit", limit=24, box=(0, 0, 1, 0.05))
    table = pd.read_csv(copy.folder / "attributions/lrp-zennit-test/shortcuts.csv")
    assert table[table["region"] == "outside"]["area"].tolist() == pytest.approx([0.95, 0.95])


# Methods beside each other


def test_methods_are_compared_on_the_same_images(run: Run, planted: tuple[Dataset, Masks], tmp_path: Path) -> None:
    some = {name: mask for name, mask in planted[1].items() if int(name) < 24}
    found = compare_explanations({"cam": (run, "grad-cam"), "lrp": (run, "lrp-zennit")}, some, target="turn1")
    assert found.rows["method"].tolist() == ["cam"] * 24 + ["lrp"] * 24
    tables = [table.drop(columns="method").reset_index(drop=True) for _, table in found.rows.groupby("method")]
    assert tables[0]["id"].tolist() == tables[1]["id"].tolist()
    row = found.differences.set_index("metric").loc["mass"]
    gaps = tables[0]["mass"] - tables[1]["mass"]
    assert row["difference"] == pytest.approx(gaps.mean())
    assert row["n"] == gaps.notna().sum()
    assert row["low"] <= row["difference"] <= row["high"]
    assert set(found.rows["target"]) == {"turn1"}
    names = {path.name for path in found.save(tmp_path / "out").iterdir()}
    assert names == {"rows.csv", "means.csv", "differences.csv", "pixels.csv", "sheet.png"}


def test_models_of_other_sizes_are_compared_at_their_own(
    run: Run, planted: tuple[Dataset, Masks], tmp_path: Path
) -> None:
    data, masks = planted
    coarse = trained(data, tmp_path / "run", image={"size": 16, "channels": 1}, stages=[{"epochs": 1, "lr": 0.02}])
    found = compare_explanations({"fine": (run, "grad-cam"), "coarse": (coarse, "grad-cam")}, masks, limit=6)
    assert {name: one.maps.shape for name, one in found.attributions.items()} == {
        "fine": (6, 32, 32),
        "coarse": (6, 16, 16),
    }
    areas = found.rows.groupby("method")["area"].mean()
    assert areas["fine"] == pytest.approx(areas["coarse"], abs=0.002)
    assert Image.open(io.BytesIO(found.sheet(limit=2))).width == 3 * (224 - 32 + 6) + 6


def test_two_classes_are_compared_for_the_positive_one(run: Run, planted: tuple[Dataset, Masks]) -> None:
    found = compare_explanations({"cam": (run, "grad-cam")}, planted[1], limit=4)
    assert set(found.rows["target"]) == {run.data.positive}


# Bad input


def test_a_mask_of_another_size_is_resized_by_area_with_a_note(
    copy: Run, planted: tuple[Dataset, Masks], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")
    halves = {name: mask.reshape(16, 2, 16, 2).mean(axis=(1, 3)) for name, mask in planted[1].items()}
    copy.explain("grad-cam", limit=3, masks=halves)
    said = capsys.readouterr().err
    assert "3 masks have another size than their image, such as (16, 16)" in said
    assert "explain grad-cam: 3/3" in said
    areas = pd.read_csv(copy.folder / "attributions/grad-cam-test-masks/scores.csv")["area"]
    np.testing.assert_allclose(areas, 100 / 1024, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"limit": 0}, ConfigError, "'limit' must be a whole number of at least 1, got 0"),
        ({"target": "turn9"}, ConfigError, "'target' must be a class, got 'turn9'; did you mean"),
        ({"masks": True}, ConfigError, "'masks' must be left out for a set without masks, got True"),
        ({"masks": "all"}, ConfigError, "'masks' must be True, False, None, or masks by id, got str"),
        ({"masks": {"x": np.ones((32, 32))}}, DataError, "'masks' must be of records of the set, by id, got 'x'"),
        ({"masks": {"000000": np.full((32, 32), 255)}}, DataError, "'masks' must say from 0 to 1"),
        ({"masks": {"000000": np.zeros((32, 32))}}, RunError, "must have masks that are not empty, got none"),
        ({"box": (0, 0, 224, 224)}, ConfigError, "'box' must be"),
        ({"method": "grad-camm"}, LookupError, "did you mean 'grad-cam'"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    options: dict[str, Any], kind: type[Exception], message: str, run: Run
) -> None:
    with pytest.raises(kind, match=message):
        run.explain(**{"method": "grad-cam", **options})


def test_runs_that_share_nothing_are_refused(run: Run, planted: tuple[Dataset, Masks]) -> None:
    with pytest.raises(ConfigError, match="'methods' must be runs and explainers by name"):
        compare_explanations({})
    with pytest.raises(RunError, match="images in common that have masks, got none"):
        compare_explanations({"cam": (run, "grad-cam")}, {})
