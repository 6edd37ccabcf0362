"""A fit within a given time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

import imgcls
from imgcls import Dataset, ImgclsError, Trainer
from imgcls.cli import app
from imgcls.core.config import from_yaml
from imgcls.core.errors import ConfigError, RunError, WeightsError
from imgcls.searching import affording, choosing, timed_fit
from imgcls.searching.probing import Score, _folds, opened, probed, scored
from imgcls.testing import blobs, write_image_folder

pytestmark = pytest.mark.usefixtures("one_thread")

NETS = [{"name": "small-cnn", "base": 4, "depth": 2}, {"name": "small-cnn", "base": 8, "depth": 2}]


def fitted(out: Path | None, **changes: Any) -> imgcls.Run:
    given: dict[str, Any] = {
        "data": blobs(groups=30),
        "minutes": 0.5,
        "backbones": NETS,
        "image": {"size": 8, "channels": 1},
        "decision": 0.5,
        "precision": "fp32",
        "out": out,
        **changes,
    }
    return imgcls.fit(given.pop("data"), **given)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> imgcls.Run:
    return fitted(tmp_path_factory.mktemp("fit") / "run")


def test_it_leaves_a_run_and_says_why(run: imgcls.Run) -> None:
    told = json.loads((run.folder / "fit.json").read_text(encoding="utf-8"))
    assert [row["backbone"] for row in told["backbones"]] == [{"cut": None, **net} for net in NETS]
    assert all(row["low"] <= row["value"] <= row["high"] for row in told["backbones"])
    best = max(told["backbones"], key=lambda row: row["value"])
    assert told["backbones"][told["number"]]["value"] == best["value"]
    assert told["winner"] == best["name"]
    assert f"{best['value']:.4f}" in told["why"]
    assert run.model.backbone == told["backbones"][told["number"]]["backbone"]
    assert imgcls.load_run(run.folder).value("roc_auc")[0] > 0.5  # undamaged, and better than chance


def test_a_trainer_makes_the_same_run_of_the_configuration_alone(run: imgcls.Run, tmp_path: Path) -> None:
    options = from_yaml((run.folder / "config.yaml").read_text(encoding="utf-8"))
    again = Trainer(**{**options, "data": run.data, "out": tmp_path / "again", "max_time": None}).fit()
    np.testing.assert_array_equal(again.predictions().logits, run.predictions().logits)


def test_the_same_call_goes_on_and_another_one_is_refused_by_name(run: imgcls.Run) -> None:
    before = (run.folder / "run.json").stat().st_mtime_ns
    assert fitted(run.folder).folder == run.folder
    assert (run.folder / "run.json").stat().st_mtime_ns == before
    with pytest.raises(RunError, match=r"'minutes' must stay 0\.5 as in .*, got 9"):
        fitted(run.folder, minutes=9)


def test_another_set_is_refused_and_another_callback_is_not(tmp_path: Path) -> None:
    tested = blobs(groups=8, grouped=False, seed=1)
    found = fitted(tmp_path / "run", test=tested, callbacks=[lambda _: None])
    assert (found.folder / "fit.json").stat().st_size < 10_000  # no images
    fitted(tmp_path / "run", test=tested, callbacks=[lambda _: None])
    for name, other in {"data": blobs(groups=30, seed=2), "test": blobs(groups=8, grouped=False, seed=3)}.items():
        with pytest.raises(RunError, match=f"'{name}' must stay .* as in"):
            fitted(tmp_path / "run", **{"test": tested, name: other})


def test_an_option_that_the_trainer_lacks_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'stage' must be an option of Trainer; did you mean 'stages'"):
        fitted(None, stage=3)


def test_a_fit_that_was_cut_off_keeps_its_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(_: Trainer) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", cut_off)
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "run")
    monkeypatch.setattr(timed_fit, "chosen", None)  # nobody chooses again
    assert fitted(tmp_path / "run").metrics is not None


def test_test_records_take_no_part_in_the_choice() -> None:
    data = blobs(groups=30, splits=["train", "train", "test"])
    trainer = Trainer(
        data, backbone=NETS[0], image={"size": 8, "channels": 1}, test="predefined", splitter="holdout", decision=0.5
    )
    probe = probed(opened(trainer))
    assert data.splits is not None
    assert set(data.splits[probe.records].tolist()) == {"train"}


def test_it_says_when_validation_records_that_the_set_names_are_not_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET", raising=False)
    fitted(tmp_path / "run", data=blobs(groups=30, splits=["train", "train", "val"]), minutes=0.2)
    assert "own validation records join the others (splitter 'predefined' keeps them apart)" in capsys.readouterr().err


def test_a_class_of_few_groups_is_probed_in_fewer_folds() -> None:
    data = blobs(groups=20, classes=4).relabel({"c": "a", "d": "a"})
    assert data.group_codes is not None
    rare = data.subset(np.flatnonzero((data.labels == 0) | (data.group_codes < 14)))
    assert len(_folds(rare, 0)) == 3


def test_two_records_of_a_class_are_enough_to_probe_it() -> None:
    folds = _folds(blobs(groups=12, per_group=2, grouped=False).subset([*range(0, 24, 4), 2, 3]), 0)
    assert sorted(np.concatenate([fold.val for fold in folds])) == list(range(8))


def test_scores_are_those_of_scikit_learn_and_the_best_is_not_behind() -> None:
    data = blobs(groups=30, positive="b")
    trainers = [Trainer(data, backbone=net, image={"size": 8, "channels": 1}, test=0.2, decision=0.5) for net in NETS]
    probes = [probed(opened(trainer)) for trainer in trainers]
    metric, scores = scored(trainers[0], probes)
    assert metric == "average_precision"
    for probe, score in zip(probes, scores, strict=True):
        expected = average_precision_score(data.labels[probe.records], probe.probs[:, 1])
        assert score.value == pytest.approx(expected)
    assert min(score.behind for score in scores) == 0.0


def test_the_best_one_that_there_is_time_for_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = affording.cost_of

    def dear(trainer: Trainer, *others: Any, **options: Any) -> affording.Cost:
        cost = measured(trainer, *others, **options)
        seconds = {4: 0.1, 8: 1e4}[trainer.backbone.base]  # type: ignore[attr-defined]
        return affording.Cost(head_epoch=cost.head_epoch, epoch=seconds, finish=cost.finish)

    monkeypatch.setattr(choosing, "cost_of", dear)
    monkeypatch.setattr(choosing, "scored", _second_is_better)
    found = fitted(tmp_path / "run")
    assert found.model.backbone["base"] == 4
    told = json.loads((found.folder / "fit.json").read_text(encoding="utf-8"))
    assert "the best one with time for 3 epochs; small-cnn (0.9000) has not" in told["why"]
    assert told["backbones"][1]["epochs"] == 0


def _second_is_better(_: Trainer, probes: list[Any]) -> tuple[str, list[Score]]:
    assert len(probes) == 2
    gaps = {"behind_low": 0.0, "behind_high": 0.0}
    values = [(0.8, 0.1), (0.9, 0.0)]
    return "roc_auc", [Score(value=v, low=v, high=v, behind=b, **gaps) for v, b in values]


def test_a_class_that_many_resamples_lack_leaves_no_interval_and_no_clear_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> tuple[str, list[Score]]:
        ends = dict.fromkeys(("low", "high", "behind_low", "behind_high"), float("nan"))
        return "roc_auc", [Score(value=0.9 - gap, behind=gap, **ends) for gap in (0.0, 0.2)]

    monkeypatch.setattr(choosing, "scored", unknown)
    told = json.loads((fitted(tmp_path / "run").folder / "fit.json").read_text(encoding="utf-8"))
    assert told["backbones"][1]["behind_low"] is None
    assert "not clearly above small-cnn" in told["why"]


def test_without_time_for_the_network_the_head_trains_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = affording.Cost(head_epoch=0.01, epoch=1e4, finish=0.1)
    monkeypatch.setattr(choosing, "cost_of", lambda *_, **__: cost)
    found = fitted(tmp_path / "run")
    assert set(found.history["stage"]) == {0}
    assert "the head alone" in json.loads((found.folder / "fit.json").read_text(encoding="utf-8"))["plan"]


def test_the_time_is_kept_though_an_epoch_takes_longer_than_was_measured(tmp_path: Path) -> None:
    started = time.perf_counter()
    found = fitted(tmp_path / "run", minutes=0.1, callbacks=[lambda _: time.sleep(0.1)])
    assert len(found.history) < 25  # of 25 planned
    assert time.perf_counter() - started < 60 * 0.1 + 6  # an epoch and the evaluation


def test_too_little_time_is_an_error_that_says_how_much_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"'minutes' must be at least .* for \d+ records on this machine, got 0.0"):
        fitted(None, minutes=1e-4)


def test_weights_that_cannot_be_had_are_never_replaced() -> None:
    with pytest.raises(WeightsError, match=r"pretrained weights of one of .*backbones=\[\{\"name\": \"resnet18\""):
        fitted(None, backbones=None)
    with pytest.raises(WeightsError, match="pretrained weights of 'resnet18' must be downloadable"):
        fitted(None, backbones=[NETS[0], "resnet18"])


def test_of_the_own_list_what_is_missing_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_fit, "BACKBONES", ("resnet18", *NETS))
    found = fitted(tmp_path / "run", backbones=None)
    assert found.model.backbone["name"] == "small-cnn"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": 0}, "'minutes' must be a number above 0"),
        ({"backbones": "resnet18"}, "'backbones' must be a list of backbones"),
        ({"backbones": []}, "'backbones' must be a list of backbones"),
        ({"stages": []}, "'stages' must be left out here"),
        ({"test": None}, "'test' must be a fixed test set"),
        ({"data": [1, 2]}, "'data' must be"),
    ],
)
def test_wrong_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ImgclsError, match=message):
        fitted(None, **changes)


def test_the_command_fits(tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path / "set", blobs(groups=30))
    words = ["fit", str(folder), r"group=(g\d+)-", "--minutes", "0.5", "--out", str(tmp_path / "run")]
    words += [
        "--backbone",
        "{name: small-cnn, base: 4, depth: 2}",
        "--set",
        "image.size=8",
        "--set",
        "image.channels=1",
    ]
    found = CliRunner().invoke(app, [*words, "--set", "decision=0.5"], catch_exceptions=False)
    assert f"Run: {tmp_path / 'run'}" in found.stdout
    assert isinstance(imgcls.load_run(tmp_path / "run").data, Dataset)


@pytest.mark.parametrize("name", ["out", "minutes", "data"])
def test_the_command_takes_its_own_options_once(name: str, tmp_path: Path) -> None:
    words = ["fit", str(write_image_folder(tmp_path / "set", blobs(groups=4))), "--set", f"{name}=1"]
    with pytest.raises(ConfigError, match=f"'--set' must give options of the Trainer, got '{name}'"):
        CliRunner().invoke(app, words, catch_exceptions=False)
