import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

from imgcls import Dataset, Run, Trainer, explainers, load_run
from imgcls.core.errors import ConfigError, DecodeError
from imgcls.data.spec import ImageSpec
from imgcls.data.store import open_store
from imgcls.explain.base import Explainer, Score, scores
from imgcls.explain.panels import overlay
from imgcls.inference.predictor import Predictor, normalised
from imgcls.inference.saved import SavedModel
from imgcls.runtime.batches import Batches
from imgcls.runtime.device import Runtime
from imgcls.runtime.sources import Resident
from imgcls.testing import blobs, write_image_folder

pytestmark = pytest.mark.usefixtures("one_thread")

SPLITTERS = {"one": {"name": "holdout", "val": 0.3, "test": 0.3}, "three": {"name": "stratified-group-kfold", "k": 3}}


def trained(data: Dataset, out: Path, **changes: object) -> Run:
    options: dict[str, object] = {"backbone": {"name": "small-cnn", "base": 4, "depth": 2}, "image": {"size": 8}}
    options |= {"stages": [{"epochs": 1, "lr": 0.03}], "batch_size": 8, "device": "cpu", "precision": "fp32"}
    return Trainer.from_config({**options, "data": data.source, "out": out, **changes}).fit()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("IMGCLS_QUIET", "1")
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images"), blobs(size=10, groups=18, channels=3))


def from_folder(images: Path) -> Dataset:
    return Dataset.from_folder(images, group="(g[0-9]+)-")


@pytest.fixture(scope="module")
def one(images: Path, quiet: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One fold, so the model that tested is the one that predicts."""
    return trained(from_folder(images), tmp_path_factory.mktemp("one") / "run", splitter=SPLITTERS["one"])


@pytest.fixture(scope="module")
def three(images: Path, quiet: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three folds that all predict the same test records."""
    out = tmp_path_factory.mktemp("three") / "run"
    return trained(from_folder(images), out, splitter=SPLITTERS["three"], test=0.3)


@pytest.fixture(params=["one", "three"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.getfixturevalue(request.param)
    return found


def held_out(run: Run, images: Path) -> list[Path]:
    return [images / name for name in run.predictions("test").ids]


def test_predict_gives_the_probabilities_of_the_test(run: Run, images: Path) -> None:
    table = run.predict(held_out(run, images))
    np.testing.assert_allclose(table[["prob_a", "prob_b"]], run.predictions("test").probs, atol=1e-5)


def test_a_run_opened_later_predicts_the_same(run: Run, images: Path) -> None:
    files = held_out(run, images)[:5]
    assert load_run(run.folder).predict(files).equals(run.predict(files))


def test_the_size_of_the_batches_makes_no_difference(one: Run, images: Path) -> None:
    files = held_out(one, images)
    few, many = (one.predictor.predict(files, batch_size=size) for size in (1, 64))
    np.testing.assert_allclose(few["prob_b"], many["prob_b"], atol=1e-6)


def test_a_row_is_given_for_each_file_in_order(one: Run, images: Path) -> None:
    files = held_out(one, images)[:3]
    table = one.predict([files[2], str(files[0]), files[2]])
    assert list(table.columns) == ["path", "prob_a", "prob_b", "decision"]
    assert table["path"].tolist() == [str(files[2]), str(files[0]), str(files[2])]


def test_no_files_give_an_empty_table(one: Run) -> None:
    table = one.predict([])
    assert len(table) == 0
    assert list(table.columns) == ["path", "prob_a", "prob_b", "decision"]


@pytest.mark.parametrize("rule", [None, "max_f1", "sensitivity>=0.95", "sensitivity"])
def test_decisions_follow_the_threshold_of_the_mean(rule: str | None, run: Run, images: Path) -> None:
    table = run.predict(held_out(run, images), threshold=rule)
    name = {None: "max_f1", "sensitivity": "sensitivity>=0.95"}.get(rule, rule)
    (cut,) = [found.value for found in run.thresholds if (found.model, found.rule) == ("mean", name)]
    assert table["decision"].tolist() == np.where(table["prob_b"] >= cut, "b", "a").tolist()


@pytest.mark.parametrize(("threshold", "decision"), [(0.0, "b"), (1.0, "a"), ("1", "a"), (0, "b")])
def test_a_number_is_a_threshold(threshold: float | str, decision: str, one: Run, images: Path) -> None:
    assert set(one.predict(held_out(one, images), threshold=threshold)["decision"]) == {decision}


def test_a_probability_at_the_threshold_is_positive(one: Run, images: Path) -> None:
    file = held_out(one, images)[:1]
    score = float(one.predict(file)["prob_b"].iloc[0])
    assert one.predict(file, threshold=score)["decision"].tolist() == ["b"]
    assert one.predict(file, threshold=float(np.nextafter(score, 1)))["decision"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        ("max_f2", "'threshold.* must be a rule .*got 'max_f2'; did you mean 'max_f1'"),
        ("sensitivity>=0.8", "'threshold' must be fitted in the run, got 'sensitivity>=0.8'; did you mean"),
        (1.5, "'threshold.* must be a threshold from 0 to 1, got 1.5"),
    ],
)
def test_thresholds_that_were_not_fitted_are_refused(threshold: str | float, message: str, one: Run) -> None:
    with pytest.raises(ConfigError, match=message):
        one.predict([], threshold=threshold)


def test_the_run_decides_by_the_rule_it_was_trained_with(images: Path, tmp_path: Path) -> None:
    data = Dataset.from_folder(images, group="(g[0-9]+)-", positive="a")
    run = trained(data, tmp_path / "run", splitter=SPLITTERS["one"], decision=0.0)
    assert set(run.predict(held_out(run, images))["decision"]) == {"a"}
    table = run.predict(held_out(run, images), threshold="max_f1")
    (cut,) = [found.value for found in run.thresholds if (found.model, found.rule) == ("mean", "max_f1")]
    assert table["decision"].tolist() == np.where(table["prob_a"] >= cut, "a", "b").tolist()


def test_more_than_two_classes_are_decided_by_the_most_probable(tmp_path: Path) -> None:
    images = write_image_folder(tmp_path / "images", blobs(size=8, groups=24, classes=3))
    run = trained(from_folder(images), tmp_path / "run", splitter=SPLITTERS["one"])
    table = run.predict(held_out(run, images))
    probs = table[["prob_a", "prob_b", "prob_c"]].to_numpy()
    assert table["decision"].tolist() == np.array(["a", "b", "c"])[probs.argmax(axis=1)].tolist()
    np.testing.assert_allclose(probs, run.predictions("test").probs, atol=1e-5)
    with pytest.raises(ConfigError, match=r"'threshold' must be left out for more than two classes, got 0.5"):
        run.predict([], threshold=0.5)


def test_one_logit_predicts_two_probabilities(images: Path, tmp_path: Path) -> None:
    run = trained(from_folder(images), tmp_path / "run", splitter=SPLITTERS["one"], balancer={"loss": "bce"})
    table = run.predict(held_out(run, images))
    np.testing.assert_allclose(table[["prob_a", "prob_b"]], run.predictions("test").probs, atol=1e-5)


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, one: Run, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(DecodeError, match=r"broken.png"):
        one.predict([tmp_path / "broken.png"])


def test_images_are_not_needed_where_they_were(one: Run, images: Path, tmp_path: Path) -> None:
    files = held_out(one, images)[:2]
    copies = [Path(shutil.copy(file, tmp_path)) for file in files]
    np.testing.assert_array_equal(one.predict(copies)["prob_b"], one.predict(files)["prob_b"])


def test_models_are_loaded_in_evaluation_mode(three: Run) -> None:
    assert len(three.predictor.models) == 3
    assert not any(module.training for model in three.predictor.models for module in model.modules())


def test_predicting_leaves_the_global_random_state_alone(one: Run, images: Path) -> None:
    before = torch.get_rng_state()
    Predictor.load(one.folder, num_folds=1).predict(held_out(one, images)[:2])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_description_of_the_models_is_read_as_it_was_written(one: Run, tmp_path: Path) -> None:
    saved = SavedModel.load(one.folder / "model.json")
    saved.save(tmp_path / "model.json")
    assert SavedModel.load(tmp_path / "model.json") == saved
    assert saved.classes == ("a", "b")
    assert saved.image.mean == (0.5, 0.5, 0.5)


def test_images_are_normalised_as_in_training(one: Run) -> None:
    data, spec = blobs(channels=3), ImageSpec(size=8, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    store = open_store(data, spec)
    saved = SavedModel.load(one.folder / "model.json")
    model = saved.classifier(one.folder / "fold_0")
    model.facts = attrs.evolve(model.facts, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    found = normalised(np.array(store.images[:4]), model, spec)
    torch.testing.assert_close(found, Batches.over(Resident.over(store), Runtime()).images(np.arange(4)))


# The guard


@pytest.fixture(scope="module", params=["one", "three"])
def guarded(request: pytest.FixtureRequest, images: Path, quiet: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has learned, since a guard is made of what was learned."""
    test = {"test": 0.3} if request.param == "three" else {}
    out, stages = tmp_path_factory.mktemp("guarded") / "run", [{"epochs": 8, "lr": 0.03}]
    run = trained(from_folder(images), out, splitter=SPLITTERS[request.param], stages=stages, **test)
    assert "unlike" not in run.predict(held_out(run, images))
    run.guard()
    return run


def written(images: np.ndarray, folder: Path) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_images_like_those_of_the_training_pass_the_guard(guarded: Run, images: Path) -> None:
    table = guarded.predict(held_out(guarded, images))
    assert table["unlike"].mean() <= 0.1
    assert table["distance"].median() < 0.8


@pytest.mark.parametrize("kind", ["noise", "stripes", "negative"])
def test_images_of_another_kind_do_not_pass_it(kind: str, guarded: Run, images: Path, tmp_path: Path) -> None:
    known = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in held_out(guarded, images)[:8]])
    strange = {
        "noise": np.random.default_rng(0).integers(0, 256, known.shape, dtype=np.uint8),
        "stripes": np.broadcast_to((np.arange(10, dtype=np.uint8) % 2 * 255)[:, None, None], known.shape),
        "negative": 255 - known,
    }[kind]
    table = guarded.predict(written(np.ascontiguousarray(strange), tmp_path))
    assert table["unlike"].mean() >= 0.8


def test_nearly_all_validation_records_of_a_fold_are_within_its_limit(guarded: Run) -> None:
    for fold, known, model in zip(guarded.folds, guarded.guard().folds, guarded.predictor.models, strict=True):
        pixels = np.stack([guarded.data.pixels(at, guarded.model.image) for at in fold.val.tolist()])
        with torch.no_grad():
            features = model.body(normalised(pixels, model, guarded.model.image)).numpy()
        assert known.distance(features).max() == pytest.approx(1, abs=1e-3)  # of fewer than 99 the largest is the limit
        assert known.records.tolist() == fold.train.tolist()


def test_neighbours_are_training_records_with_their_classes(guarded: Run, images: Path) -> None:
    table = guarded.predict(held_out(guarded, images), neighbours=2)
    labels = guarded.data.frame.set_index("id")["label"]
    trained_on = set(guarded.data.ids[np.concatenate([fold.train for fold in guarded.folds])])
    for number in (1, 2):
        assert set(table[f"neighbour_{number}"]) <= trained_on
        assert table[f"neighbour_{number}_class"].tolist() == labels[table[f"neighbour_{number}"]].tolist()
    assert (table["neighbour_2"] != table["neighbour_1"]).all()
    assert (table["neighbour_1_class"] == table["decision"]).mean() > 0.9


def test_the_guard_stays_with_the_run(guarded: Run, images: Path) -> None:
    files = held_out(guarded, images)[:3]
    again = load_run(guarded.folder)
    assert again.predict(files, neighbours=1).equals(guarded.predict(files, neighbours=1))
    assert guarded.guard() is guarded.guard()


def test_sets_and_abstention_are_empty_where_nothing_was_read(three: Run, images: Path) -> None:
    rule, (file,) = three.rejection(coverage=0.9), held_out(three, images)[:1]
    table = three.predict(["missing.png", file], on_error="row", sets=0.2, reject=rule)
    alone = three.predict(file, sets=0.2, reject=rule)
    assert table["set"].tolist() == ["", alone["set"][0]]
    assert table["rejected"].tolist() == ["", alone["rejected"][0]]


# The features of its own network


def test_the_features_give_the_predictions_through_the_head(three: Run, images: Path) -> None:
    model, files = three.classifier(1), held_out(three, images)[:5]
    features = three.embed(files, fold=1)
    with torch.no_grad():
        logits = model.classify(torch.from_numpy(features))
        torch.testing.assert_close(logits, model(normalised(pixels_of(files, three), model, three.model.image)))


def pixels_of(files: list[Path], run: Run) -> np.ndarray:
    places = [run.data.ids.tolist().index(f"{file.parent.name}/{file.name}") for file in files]
    return np.stack([run.data.pixels(place, run.model.image) for place in places])


def test_features_of_the_own_set_of_another_and_of_files_agree(three: Run, images: Path) -> None:
    every = three.embed()
    assert every.shape[0] == len(three.data)
    files = [images / name for name in three.data.ids]
    np.testing.assert_allclose(three.embed(files), every, atol=1e-5)
    np.testing.assert_allclose(three.embed(files[4]), every[[4]], atol=1e-5)
    np.testing.assert_array_equal(three.embed(three.data.subset([4, 2])), every[[4, 2]])
    assert not np.allclose(three.embed(fold=2), every)  # another network has other features


@pytest.mark.parametrize(
    ("files", "fold", "message"),
    [(None, 3, "'fold' must be one of 3 folds, got 3"), ([], 0, "'images' must name at least one image file")],
)
def test_features_of_nothing_are_refused(files: list[str] | None, fold: int, message: str, three: Run) -> None:
    with pytest.raises(ConfigError, match=message):
        three.embed(files, fold=fold)


def test_features_of_unreadable_images_are_no_numbers(images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "images")
    data = from_folder(tmp_path / "images")
    data.path(7).write_bytes(b"no image")
    run = trained(from_folder(tmp_path / "images"), tmp_path / "run", splitter=SPLITTERS["one"], on_bad="skip")
    assert np.flatnonzero(np.isnan(run.embed()).any(axis=1)).tolist() == [7]


# Maps


def test_maps_are_drawn_for_the_decided_class(three: Run, images: Path, tmp_path: Path) -> None:
    files = held_out(three, images)[:2]
    table = three.predict([files[0], "missing.png", files[1]], on_error="row", maps=tmp_path, explainer="lrp")
    names = [
        f"{number:05d}_{file.stem}_pred-{decision}_lrp.png"
        for number, file, decision in zip((0, 2), files, table["decision"][[0, 2]], strict=True)
    ]
    assert table["map"].tolist() == [str(tmp_path / names[0]), "", str(tmp_path / names[1])]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    target = three.model.classes.index(table["decision"][2])
    explainer, pixels = explainers.create("lrp"), pixels_of(files[1:], three)
    maps = [
        explainer.explain(model, normalised(pixels, model, three.model.image), target).maps[0]
        for model in three.predictor.models
    ]
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / names[1])), overlay(pixels[0], np.mean(maps, axis=0))
    )


def test_maps_change_no_prediction_and_are_the_same_again(one: Run, images: Path, tmp_path: Path) -> None:
    files = held_out(one, images)[:2]
    table = one.predict(files, maps=tmp_path, explainer={"name": "lrp"})
    assert table.drop(columns="map").equals(one.predict(files))
    before = [Path(file).read_bytes() for file in table["map"]]
    assert [Path(file).read_bytes() for file in one.predict(files, maps=tmp_path, explainer="lrp")["map"]] == before


def test_of_several_labels_the_most_probable_one_is_drawn(one: Run, images: Path, tmp_path: Path) -> None:
    predictor = attrs.evolve(one.predictor, saved=attrs.evolve(one.predictor.saved, multilabel=True, positive=None))
    none = {"a": 1.0, "b": 1.0}
    table = predictor.predict(held_out(one, images)[:4], threshold=none, maps=tmp_path, explainer="lrp")
    likely = table[["prob_a", "prob_b"]].to_numpy().argmax(axis=1)
    assert set(table["decision"]) == {""}
    assert [name.split("_pred-")[1][0] for name in table["map"]] == ["ab"[place] for place in likely]


def test_no_files_have_no_maps(one: Run, tmp_path: Path) -> None:
    assert one.predict([], maps=tmp_path)["map"].tolist() == []


def test_an_explainer_without_a_folder_for_maps_is_refused(one: Run) -> None:
    with pytest.raises(ConfigError, match="'explainer' must be left out without 'maps'"):
        one.predict([], explainer="lrp")


def test_a_map_that_says_nothing_is_not_drawn(
    one: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")
    table = one.predict(
        written(np.zeros((1, 10, 10, 3), dtype=np.uint8), tmp_path), maps=tmp_path / "m", explainer=Mute()
    )
    assert table["map"].tolist() == [""]
    assert "1 of 1 maps are zero everywhere" in capsys.readouterr().err


class Mute(Explainer):
    """Finds nothing."""

    def attribute(self, model: torch.nn.Module, images: torch.Tensor, target: Score) -> torch.Tensor:
        scores(model(images), target)
        return torch.zeros_like(images[:, 0])
