import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgcls.core.errors import ConfigError, DataError, DecodeError
from imgcls.data.images import read
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.thresholds import Threshold
from imgcls.inference.deciding import Decider
from imgcls.inference.formats import write_predictions
from imgcls.inference.guarding import Guard, Known
from imgcls.inference.predictor import Predictor
from imgcls.inference.saved import SavedModel
from imgcls.inference.views import Draws, views
from imgcls.models.base import backbones
from imgcls.models.head import Head

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = ImageSpec(size=8)
NET = {"name": "small-cnn", "base": 4, "depth": 2}


def a_predictor(models: int = 3, classes: tuple[str, ...] = ("a", "b")) -> Predictor:
    """Networks without training, each with weights of its own."""
    positive = classes[-1] if len(classes) == 2 else None
    saved = SavedModel(
        backbone=NET,
        image=SPEC,
        num_outputs=len(classes),
        classes=classes,
        positive=positive,
        decision="" if positive is None else "max_f1",
        head=Head(),
    )
    made = backbones.create(NET)
    built = [made.build(len(classes), image_size=SPEC.size, seed=seed).eval() for seed in range(models)]
    cut = Threshold(rule="max_f1", value=0.5, model="mean", num_records=9, num_positives=4)
    return Predictor(saved=saved, models=tuple(built), thresholds=(cut,) if positive else ())


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Four noisy images, of which the third cannot be read."""
    chance = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        Image.fromarray(chance.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)
    paths[2].write_bytes(b"no image")
    return paths


@pytest.fixture
def good(files: list[Path]) -> list[Path]:
    return [*files[:2], files[3]]


def test_files_that_cannot_be_read_are_rows(files: list[Path], good: list[Path]) -> None:
    predictor = a_predictor()
    table = predictor.predict([*files, "missing.png"], on_error="row")
    assert table["path"].tolist() == [*map(str, files), "missing.png"]
    assert table["decision"].eq("").tolist() == [False, False, True, False, True]
    assert table["error"].ne("").tolist() == [False, False, True, False, True]
    assert "2.png" in table["error"][2]
    assert table.loc[[2, 4], ["prob_a", "prob_b", "spread"]].isna().all(axis=None)
    np.testing.assert_allclose(table.loc[[0, 1, 3], "prob_b"], predictor.predict(good)["prob_b"], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_only_unreadable_files_give_the_same_columns(files: list[Path], batch_size: int) -> None:
    predictor = a_predictor()
    nothing = predictor.predict([files[2]] * 3, on_error="row", batch_size=batch_size)
    pd.testing.assert_series_equal(nothing.dtypes, predictor.predict(files, on_error="row").dtypes)


def test_an_unknown_way_with_unreadable_files_is_refused() -> None:
    with pytest.raises(ConfigError, match="'on_error' must be one of 'raise', 'row', got 'skip'"):
        a_predictor().predict([], on_error="skip")


def test_spread_is_the_deviation_of_the_probabilities_of_the_decided_class(good: list[Path]) -> None:
    predictor = a_predictor(3, ("a", "b", "c"))
    table = predictor.predict(good)
    alone = [Predictor(saved=predictor.saved, models=(model,), thresholds=()) for model in predictor.models]
    tables = [one.predict(good) for one in alone]
    for at, decision in enumerate(table["decision"]):
        wanted = np.std([one[f"prob_{decision}"][at] for one in tables])
        assert table["spread"][at] == pytest.approx(wanted, abs=1e-9)
    assert "spread" not in tables[0]


def test_a_stream_gives_the_rows_of_the_table(good: list[Path]) -> None:
    predictor = a_predictor()
    rows = list(predictor.stream(iter(good), batch_size=3))
    pd.testing.assert_frame_equal(pd.DataFrame(rows), predictor.predict(good))


def test_a_stream_takes_a_batch_at_a_time_and_checks_at_once(good: list[Path]) -> None:
    endless = itertools.count()
    rows = a_predictor().stream((good[next(endless) % 3] for _ in itertools.repeat(None)), batch_size=2)
    assert next(rows)["path"] == str(good[0])
    assert next(endless) == 2
    with pytest.raises(ConfigError, match="'on_error'"):
        a_predictor().stream(good, on_error="never")
    with pytest.raises(DecodeError):
        list(a_predictor().stream(["missing.png"]))


def test_threads_may_share_a_predictor(good: list[Path]) -> None:
    predictor = a_predictor()
    wanted = predictor.predict(good)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: predictor.predict(good, tta="flips"), range(8)):
            pd.testing.assert_frame_equal(found, predictor.predict(good, tta="flips"))
    pd.testing.assert_frame_equal(predictor.predict(good), wanted)


# Views


def pixels(files: list[Path]) -> np.ndarray:
    return np.stack([read(file, SPEC) for file in files])


def test_flips_average_the_image_and_its_mirror(good: list[Path]) -> None:
    predictor, seen = a_predictor(), pixels(good)
    mirrored = np.mean([predictor.probs(seen), predictor.probs(seen[:, :, ::-1].copy())], axis=0)
    found = predictor.predict(good, tta="flip-lr")
    np.testing.assert_allclose(found[["prob_a", "prob_b"]], mirrored, atol=1e-7)


def test_flips_make_predictions_blind_to_the_side(good: list[Path], tmp_path: Path) -> None:
    turned = [tmp_path / f"turned{number}.png" for number in range(3)]
    for file, new in zip(good, turned, strict=True):
        Image.fromarray(np.asarray(Image.open(file))[::-1, ::-1].copy()).save(new)
    predictor = a_predictor()
    before, after = (predictor.predict(paths, tta="flips")["prob_b"] for paths in (good, turned))
    np.testing.assert_allclose(before, after, atol=1e-6)
    before, after = (predictor.predict(paths)["prob_b"] for paths in (good, turned))
    assert not np.allclose(before, after, atol=1e-6)


def test_draws_do_not_depend_on_order_or_batches(good: list[Path]) -> None:
    tta, predictor = {"augment": [{"name": "rotate", "degrees": 30}], "draws": 3, "seed": 5}, a_predictor()
    forward = predictor.predict(good, tta=tta)["prob_b"].tolist()
    backward = predictor.predict(good[::-1], tta=tta, batch_size=1)["prob_b"].tolist()
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-6)
    assert not np.allclose(forward, predictor.predict(good)["prob_b"], atol=1e-6)


def test_a_drawn_flip_is_the_flip(good: list[Path]) -> None:
    spec = Draws(augment=[{"name": "flip-lr", "p": 1.0}], draws=1)
    plain, drawn = views(spec, SPEC)
    np.testing.assert_array_equal(plain(pixels(good)), pixels(good))
    np.testing.assert_allclose(drawn(pixels(good)), pixels(good)[:, :, ::-1], atol=1e-3)


@pytest.mark.parametrize(
    ("tta", "message"),
    [
        ("flip", "'tta' must be one of"),
        ({"augment": "light", "number": 3}, "'tta.number' must be an option of Draws"),
        ({"augment": [{"name": "mixup"}]}, "'tta.augment' must change images, and not mix them"),
        ({"augment": "light", "draws": 0}, "'tta.draws' must be"),
    ],
)
def test_wrong_views_are_refused(tta: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        a_predictor().predict([], tta=tta)


# Neighbours


def guarded(train: list[Path]) -> Predictor:
    predictor = a_predictor(1)
    _, (features,) = predictor._each(pixels(train))
    known = Known.fit(features, np.arange(len(train)), features[:1])
    guard = Guard(folds=[known], ids=np.array([file.name for file in train]), labels=np.repeat("a", len(train)))
    return Predictor(saved=predictor.saved, models=predictor.models, thresholds=predictor.thresholds, guard=guard)


def test_the_nearest_image_of_a_training_image_is_itself(files: list[Path], good: list[Path]) -> None:
    table = guarded(good).predict(files, neighbours=2, on_error="row")
    assert table["neighbour_1"].tolist() == ["0.png", "1.png", "", "3.png"]
    assert table["neighbour_2_class"].tolist() == ["a", "a", "", "a"]
    assert np.isnan(table["distance"][2])


def test_neighbours_need_a_guard() -> None:
    with pytest.raises(ConfigError, match=r"'neighbours' must be 0 without a guard, got 3; 'Run.guard' fits one"):
        a_predictor().predict([], neighbours=3)
    with pytest.raises(ConfigError, match=r"'neighbours' must be a number from 0, got -1$"):
        a_predictor().predict([], neighbours=-1)


# Thresholds of several classes


def test_a_number_for_each_class_decides() -> None:
    decider = Decider(classes=("a", "b", "c"), positive=None, multilabel=False, decision="", thresholds=())
    probs = np.array([[0.5, 0.3, 0.2], [0.5, 0.4, 0.1]])
    assert decider.decide(probs, decider.cuts({"c": 0.1, "a": 0.5, "b": 0.4})) == ["c", "a"]
    several = Decider(classes=("a", "b", "c"), positive=None, multilabel=True, decision="0.5", thresholds=())
    assert several.decide(probs, several.cuts({"a": 0.6, "b": 0.35, "c": 0.2})) == ["c", "b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": 0.5}, r"'threshold' must have a number for each of \['a', 'b', 'c'\]"),
        ({"a": 0.5, "b": "max_f1", "c": 0.5}, "'threshold' must have a number for each class"),
        ({"a": 0.5, "b": 2, "c": 0.5}, "'threshold.b' must be a threshold from 0 to 1, got 2"),
    ],
)
def test_wrong_numbers_of_classes_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        a_predictor(1, ("a", "b", "c")).predict([], threshold=given)


def test_two_classes_have_one_number() -> None:
    with pytest.raises(ConfigError, match="'threshold' must be one number, of 'b', for two classes"):
        a_predictor().predict([], threshold={"a": 0.5, "b": 0.5})


# Files


def test_lines_are_a_decision_and_a_probability_an_image(good: list[Path], tmp_path: Path) -> None:
    predictor = a_predictor()
    table = predictor.predict(good)
    write_predictions(tmp_path / "predictions.txt", table, predictor.decider, form="lines")
    lines = (tmp_path / "predictions.txt").read_text().splitlines()
    assert lines == [str(int(value)) for value in table["prob_b"] >= 0.5]
    probs = (tmp_path / "predictions.txt.proba").read_text().splitlines()
    assert list(map(float, probs)) == table["prob_b"].tolist()


def test_indices_are_a_list_of_classes(good: list[Path], tmp_path: Path) -> None:
    predictor = a_predictor(2, ("a", "b", "c"))
    table = predictor.predict(good)
    write_predictions(tmp_path / "p.json", table, predictor.decider, form="indices")
    probs = table[["prob_a", "prob_b", "prob_c"]].to_numpy()
    assert json.loads((tmp_path / "p.json").read_text()) == probs.argmax(axis=1).tolist()


def test_json_and_csv_hold_the_table(files: list[Path], tmp_path: Path) -> None:
    predictor = a_predictor()
    table = predictor.predict(files, on_error="row")
    for name in ("p.csv", "p.json"):
        write_predictions(tmp_path / name, table, predictor.decider)
    rows = json.loads((tmp_path / "p.json").read_text())
    assert rows[2]["prob_a"] is None
    assert rows[0]["prob_a"] == table["prob_a"][0]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "p.csv").fillna({"decision": "", "error": ""}), table)


@pytest.mark.parametrize("form", ["lines", "indices"])
def test_formats_without_names_refuse_unreadable_files(form: str, files: list[Path], tmp_path: Path) -> None:
    predictor = a_predictor()
    with pytest.raises(DataError, match=r"must all be readable for the format .* got 1 that are not, such as .*2.png"):
        write_predictions(tmp_path / "p", predictor.predict(files, on_error="row"), predictor.decider, form=form)


@pytest.mark.parametrize(("name", "form"), [("p.txt", None), ("p.csv", "xml")])
def test_unknown_formats_are_refused(name: str, form: str | None, tmp_path: Path) -> None:
    predictor = a_predictor()
    with pytest.raises(ConfigError, match=r"'(out|format)' must"):
        write_predictions(tmp_path / name, predictor.predict([]), predictor.decider, form=form)
