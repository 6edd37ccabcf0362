"""A search over a Trainer."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
import yaml

from imgcls import Choice, Float, ImageSpec, ImgclsError, Searcher, Stage, Trainer
from imgcls.core.errors import ConfigError
from imgcls.testing import blobs


def trainer(**changes: object) -> Trainer:
    options: dict[str, object] = {
        "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
        "image": ImageSpec(size=8, channels=1),
        "splitter": "holdout",
        "stages": [Stage(epochs=1, lr=1e-2)],
        "precision": "fp32",
    }
    return Trainer(blobs(), **options | changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    space = {"stages.0.lr": [1e-2, 1e-4], "optimizer": Choice("adamw", "sgd")}
    return Searcher(trainer(), space=space, backend="grid", trials=None, out=tmp_path_factory.mktemp("search"))


def test_grid_runs_the_own_trainer_and_every_combination(searcher: Searcher) -> None:
    search = searcher.run()
    assert len(search.table) == 1 + 4
    assert set(search.table["state"]) == {"complete"}
    assert search.best.facts["objective"] == [pytest.approx(search.table["value"].max())]


def test_values_are_those_of_the_kept_checkpoints(searcher: Searcher) -> None:
    search = searcher.run()
    values = [np.mean(search.searcher.load(entry).facts["objective"]) for entry in search.entries]
    np.testing.assert_allclose(search.table["value"], values)


def test_the_same_call_again_repeats_nothing(searcher: Searcher) -> None:
    before = {path: path.stat().st_mtime_ns for path in searcher.out.glob("trial_*/run.json")}
    searcher.run()
    assert before == {path: path.stat().st_mtime_ns for path in searcher.out.glob("trial_*/run.json")}


def test_an_interrupted_study_goes_on(searcher: Searcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    fit = Trainer.fit

    def interrupted(self: Trainer) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(self)

    monkeypatch.setattr(Trainer, "fit", interrupted)
    cut = attrs.evolve(searcher, out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    table = cut.run().table
    assert table["value"].tolist() == searcher.run().table["value"].tolist()
    assert len(calls) == 1 + 5


def test_best_configuration_is_written_and_has_the_best_parameters(searcher: Searcher) -> None:
    search = searcher.run()
    saved = yaml.safe_load((searcher.out / "best.yaml").read_text(encoding="utf-8"))
    assert saved["stages"][0]["lr"] == search.best_trainer().stages[0].lr


def test_less_is_better_for_a_loss(tmp_path: Path) -> None:
    space = {"stages.0.lr": [1e-2, 1e-9]}
    search = Searcher(trainer(monitor="loss"), space=space, backend="grid", trials=None, out=tmp_path).run()
    assert search.winner is not None
    assert search.winner.outcome is not None
    assert search.winner.outcome.values == (search.table["value"].min(),)


def test_a_failing_trial_is_recorded_and_ends_nothing(tmp_path: Path) -> None:
    space = {"backbone.depth": [2, 9]}
    search = Searcher(trainer(), space=space, backend="grid", trials=None, out=tmp_path).run()
    failed = search.table[search.table["state"] == "failed"]
    assert failed["backbone.depth"].tolist() == [9]
    assert "'depth' must be smaller for images of 8 pixels" in failed["reason"].iloc[0]
    assert search.best_trainer().backbone.depth == 2  # type: ignore[attr-defined]


def test_no_completed_trial_is_an_error_with_the_reason(tmp_path: Path) -> None:
    broken = trainer(backbone={"name": "small-cnn", "base": 4, "depth": 9})
    search = Searcher(broken, space={"stages.0.lr": [1e-3]}, backend="grid", trials=None, out=tmp_path).run()
    with pytest.raises(ImgclsError, match="must have a trial that completed"):
        search.best_trainer()


def test_a_path_that_leads_nowhere_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"'stages\.0\.lrr' must lead to an option of Stage; did you mean 'lr'"):
        Searcher(trainer(), space={"stages.0.lrr": Float(1e-4, 1e-2)})


def test_a_changed_space_is_refused_by_name(searcher: Searcher) -> None:
    searcher.run()
    with pytest.raises(ConfigError, match=r"stages\.0\.lr"):
        attrs.evolve(searcher, space={"stages.0.lr": [1e-2, 1e-3], "optimizer": ["adamw", "sgd"]}).run()


def test_a_changed_trainer_is_refused_by_name(searcher: Searcher) -> None:
    searcher.run()
    with pytest.raises(ConfigError, match=r"'trainer\.batch_size' must stay 32 as in the study of"):
        attrs.evolve(searcher, trainer=trainer(batch_size=8)).run()


def test_another_set_is_refused(searcher: Searcher) -> None:
    searcher.run()
    with pytest.raises(ConfigError, match=r"'trainer\.data' must stay"):
        attrs.evolve(searcher, trainer=attrs.evolve(searcher.trainer, data=blobs(seed=1))).run()


@pytest.mark.parametrize("path", ["seed", "monitor", "splitter.val", "out"])
def test_what_trials_are_compared_by_cannot_be_searched(path: str) -> None:
    with pytest.raises(ConfigError, match=f"'space' must leave '{path}' alone"):
        Searcher(trainer(), space={path: [1, 2]})


def test_the_best_trainer_has_no_folder_yet(searcher: Searcher) -> None:
    assert searcher.run().best_trainer().out is None


def test_the_best_run_knows_its_test_set(tmp_path: Path) -> None:
    own = trainer(test=blobs(seed=5, groups=4, grouped=False))
    run = Searcher(own, space={"stages.0.lr": [1e-2]}, backend="grid", trials=1, out=tmp_path).run().best
    assert len(run.explain("grad-cam", limit=2)) == 2
