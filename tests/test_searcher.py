"""A search over a Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from sklearn.metrics import average_precision_score
from torch import nn

from imgcls import Choice, Float, ImageSpec, ImgclsError, Searcher, Space, Stage, Trainer
from imgcls.core.errors import ConfigError
from imgcls.evaluation.predictions import Predictions
from imgcls.models.module import ModuleBackbone
from imgcls.search.trials import Entry, Outcome, Trial
from imgcls.searching import trial
from imgcls.searching.conducting import Conductor
from imgcls.searching.results import rows
from imgcls.searching.showing import shown
from imgcls.searching.variants import variant
from imgcls.testing import blobs
from imgcls.training.fold import train_fold
from imgcls.training.planning import Recipe


def trainer(**changes: object) -> Trainer:
    options: dict[str, object] = {
        "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
        "image": ImageSpec(size=8, channels=1),
        "splitter": "holdout",
        "stages": [Stage(epochs=1, lr=1e-2)],
        "precision": "fp32",
        "decision": 0.5,
    }
    return Trainer(**{"data": blobs(), **options, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    space = {"stages.0.lr": [1e-2, 1e-4], "optimizer": Choice("adamw", "sgd")}
    return Searcher(trainer(), space=space, backend="grid", trials=None, out=tmp_path_factory.mktemp("search"))


def test_grid_runs_the_own_trainer_and_every_combination(searcher: Searcher) -> None:
    search = searcher.run()
    assert len(search.table) == 4  # the own Trainer is one of them
    assert search.entries[0].trial.params == {"stages.0.lr": 1e-2, "optimizer": "adamw"}
    assert set(search.table["state"]) == {"complete"}
    assert search.best.facts["objective"] == [pytest.approx(search.table["value"].max())]


def test_values_are_those_of_the_kept_checkpoints(searcher: Searcher) -> None:
    search = searcher.run()
    values = [np.mean(search.searcher.load(entry).facts["objective"]) for entry in search.entries]
    np.testing.assert_allclose(search.table["value"], values)


def test_the_same_call_again_repeats_nothing(searcher: Searcher) -> None:
    searcher.run()
    before = {path: path.stat().st_mtime_ns for path in searcher.out.glob("trial_*/fold_*/checkpoints/*/*")}
    searcher.run()
    assert before
    assert before == {path: path.stat().st_mtime_ns for path in searcher.out.glob("trial_*/fold_*/checkpoints/*/*")}


def test_an_interrupted_study_goes_on(searcher: Searcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def interrupted(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train_fold(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "train_fold", interrupted)
    cut = attrs.evolve(searcher, out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    table = cut.run().table
    assert table["value"].tolist() == searcher.run().table["value"].tolist()
    assert len(calls) == 1 + 4


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


def test_the_table_shows_what_the_own_trainer_has_outside_of_the_space(tmp_path: Path) -> None:
    space = {
        "stages.0.lr": [1e-4],
        "optimizer": ["sgd", "adam"],
        "optimizer.momentum": Float(0.5, 0.9, when={"optimizer": "sgd"}),
        "batch_size": [16],
    }
    search = Searcher(trainer(), space=space, trials=2, out=tmp_path).run()
    own = search.table.iloc[0]
    assert (own["stages.0.lr"], own["optimizer"], own["batch_size"]) == (1e-2, "adamw", 32)
    if "optimizer.momentum" in search.table:
        assert pd.isna(own["optimizer.momentum"])
    saved = pd.read_csv(tmp_path / "trials.csv")
    assert saved["optimizer"].tolist() == search.table["optimizer"].tolist()
    assert pd.read_csv(tmp_path / "hparams_summary.csv")["batch_size"].tolist() == [32, 16]


def test_memory_that_is_short_in_a_trial_changes_its_parts_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"stages.0.lr": [1e-2]}
    plain = Searcher(trainer(), space=space, backend="grid", trials=None, out=tmp_path / "plain").run()
    seen: list[int] = []

    def short(recipe: Recipe, *arguments: Any, **options: Any) -> Any:
        seen.append(recipe.parts)
        if recipe.parts == 1:
            raise MemoryError
        return train_fold(recipe, *arguments, **options)

    monkeypatch.setattr(trial, "train_fold", short)
    search = Searcher(trainer(), space=space, backend="grid", trials=None, out=tmp_path / "short").run()
    assert seen == [1, 2]
    assert search.table["state"].tolist() == ["complete"]
    assert search.best.facts["objective"] == pytest.approx(plain.best.facts["objective"], abs=0.05)


def test_no_completed_trial_is_an_error_with_the_reason(tmp_path: Path) -> None:
    broken = trainer(backbone={"name": "small-cnn", "base": 4, "depth": 9})
    search = Searcher(broken, space={"stages.0.lr": [1e-3]}, backend="grid", trials=None, out=tmp_path).run()
    with pytest.raises(ImgclsError, match="must have a trial that completed"):
        search.best_trainer()


def test_a_path_that_leads_nowhere_is_refused_at_once() -> None:
    with pytest.raises(
        ConfigError, match=r"'space\.stages\.0\.lrr' must lead to an option of Stage; did you mean 'lr'"
    ):
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


def test_halving_continues_the_better_trials_from_their_checkpoints(tmp_path: Path) -> None:
    own = trainer(stages=[Stage(epochs=4, lr=1e-2)])
    space = {"stages.0.lr": Float(1e-4, 1e-1, log=True)}
    backend = {"name": "halving", "factor": 2, "min_epochs": 1}
    search = Searcher(own, space=space, backend=backend, trials=4, out=tmp_path).run()
    assert sorted(search.table["epochs"]) == [1, 1, 2, 4]
    assert sorted(search.table["state"]) == ["complete", "pruned", "pruned", "pruned"]
    winner = search.winner
    assert winner is not None
    whole = Searcher(own, space=space, trials=4, out=tmp_path / "whole").run()
    twin = next(entry for entry in whole.entries if entry.trial.params == winner.trial.params)
    assert twin.outcome is not None
    assert winner.outcome is not None
    assert winner.outcome.values == twin.outcome.values  # a pause changes nothing
    assert search.best.facts["objective"] == list(winner.outcome.values)


def test_hopeless_trials_stop_after_a_fold(tmp_path: Path) -> None:
    own = trainer(
        data=blobs(groups=12), splitter={"name": "stratified-group-kfold", "k": 3}, stages=[Stage(epochs=3, lr=1e-2)]
    )
    space = {"stages.0.lr": [1e-2, 1e-9]}
    search = Searcher(own, space=space, backend="grid", trials=None, prune="folds", out=tmp_path).run()
    assert search.table["state"].tolist() == ["complete", "pruned"]
    assert search.table["folds"].tolist() == [3, 1]
    found = Predictions.load(tmp_path / "trial_0001" / "fold_0" / "predictions_val.npz")
    precision = average_precision_score(found.labels == found.positive_index, found.scores)
    assert search.table["value"][1] == pytest.approx(precision, abs=1e-6)  # of the checkpoint that is kept
    assert search.optimism is None  # one trial that came to its end was no choice


def test_processes_give_the_same_trials(searcher: Searcher, tmp_path: Path) -> None:
    with_processes = attrs.evolve(searcher, executor="processes", workers=2, out=tmp_path)
    pd.testing.assert_frame_equal(
        with_processes.run().table.drop(columns="seconds"), searcher.run().table.drop(columns="seconds")
    )


def test_the_time_ends_a_search_and_the_next_call_goes_on(searcher: Searcher, tmp_path: Path) -> None:
    short = attrs.evolve(searcher, timeout=1e-3, out=tmp_path)
    assert short.run().table.empty
    assert attrs.evolve(short, timeout=None).run().table["value"].tolist() == searcher.run().table["value"].tolist()


def test_what_is_only_ahead_when_the_time_is_over_is_not_judged(
    searcher: Searcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = attrs.evolve(searcher, timeout=1e6, out=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(
            Conductor, "_is_over", lambda self: sum(one.outcome is not None for one in self.study.entries) > 1
        )
        found = cut.run()
    assert (found.done, len(found.entries)) == (False, 2)
    assert not list(tmp_path.glob("trial_*/run.json"))
    assert cut.run().done
    assert len(list(tmp_path.glob("trial_*/run.json"))) == 1


def test_the_end_of_the_space_is_said(
    searcher: Searcher, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET", raising=False)
    attrs.evolve(searcher, space={"stages.0.lr": [1e-2, 1e-3]}, backend="random", trials=9, out=tmp_path).run()
    assert "The space has no more than 2 trials, and all are done" in capsys.readouterr().err


def test_an_own_module_can_be_searched_over(tmp_path: Path) -> None:
    own = trainer(backbone=ModuleBackbone(module=nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), mean=(0.5,), std=(0.2,)))
    found = Searcher(own, space={"backbone": [{"name": "small-cnn", "base": 4, "depth": 2}]}, out=tmp_path).run()
    assert [entry.outcome.state for entry in found.entries if entry.outcome] == ["complete", "complete"]
    assert found.table["backbone"][0].startswith("ModuleBackbone(")


def test_a_test_set_that_records_name_is_not_searched_in(tmp_path: Path) -> None:
    data = blobs(groups=16, splits=["train", "train", "test"])
    with pytest.raises(ConfigError, match="'outer' must be None beside a fixed test set"):
        Searcher(trainer(data=data), space={"stages.0.lr": [1e-2]}, outer="stratified-group-kfold", out=tmp_path).run()


def test_a_trial_that_breaks_a_limit_is_not_shown_as_the_best(tmp_path: Path) -> None:
    options: dict[str, Any] = {"backend": "grid", "trials": None, "limits": {"parameters": 0.002}}
    Searcher(trainer(), space={"backbone.base": [4, 16]}, out=tmp_path, **options).run()
    text = shown(tmp_path)
    assert "2 complete" in text
    assert [line.split()[:3] for line in text.splitlines()[1:2]] == [["0", "complete", "4"]]
    assert text.splitlines()[2] == "2 complete"


def test_cost_of_the_model_counts_and_is_limited(tmp_path: Path) -> None:
    space = {"backbone.base": [4, 16]}
    search = Searcher(
        trainer(),
        space=space,
        backend="grid",
        trials=None,
        objectives=["parameters"],
        limits={"parameters": 0.001},
        out=tmp_path,
    ).run()
    assert search.table["value_1"].tolist() == sorted(search.table["value_1"])
    assert {entry.trial.params["backbone.base"] for entry in search.front} <= {4, 16}
    winner = search.winner
    assert winner is None or winner.trial.params["backbone.base"] == 4


def test_a_nested_search_judges_its_winner_on_records_that_no_trial_saw(tmp_path: Path) -> None:
    own = trainer(data=blobs(groups=16), splitter={"name": "holdout", "val": 0.4})
    space = {"stages.0.lr": [1e-2, 1e-4]}
    outer = {"name": "stratified-group-kfold", "k": 2}
    search = Searcher(own, space=space, backend="grid", trials=None, outer=outer, out=tmp_path).run()
    assert search.estimate is not None
    assert [row["fold"] for row in search.estimate.rows] == [0, 1]
    assert search.estimate.low <= search.estimate.value <= search.estimate.high
    files = [next((tmp_path / f"outer_{fold}").glob("trial_*/predictions_test.npz")) for fold in range(2)]
    tested = [set(Predictions.load(path).ids) for path in files]
    assert not tested[0] & tested[1]


def test_the_files_of_a_search(searcher: Searcher) -> None:
    search = searcher.run()
    summary = pd.read_csv(searcher.out / "hparams_summary.csv")
    assert {"stages.0.lr", "roc_auc_mean", "roc_auc_std", "loss_mean"} <= set(summary)
    np.testing.assert_allclose(summary[f"{searcher.monitor}_mean"], search.table["value"])
    assert Space.from_dict(yaml.safe_load((searcher.out / "space.yaml").read_text(encoding="utf-8"))) == searcher.space
    assert {path.name for path in (searcher.out / "plots").iterdir()} >= {"history.png", "parallel.png", "slices.png"}
    assert (searcher.out / "trial_0000" / "config.yaml").exists()
    assert "4 complete" in shown(searcher.out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "'workers' must be 1 in one process, got 2; choose executor 'processes'"),
        ({"objectives": ["latencey"]}, "'objectives' must name some of 'latency', 'parameters'"),
        ({"limits": {"latency": 0}}, r"'limits\.latency' must be a number above 0, got 0"),
        ({"limits": {"auc": 1}}, "'limits' must map some of 'latency', 'parameters' to numbers"),
        ({"prune": {"alpah": 0.1}}, r"'prune\.alpah' must be an option of FoldPruning; did you mean 'alpha'"),
        ({"backend": "halving", "trials": None}, "'trials' must be a whole number of at least 1 for 'halving'"),
        ({"backend": "halving"}, "'min_epochs' must be below the 1 epochs of a training"),
        ({"backend": "radnom"}, "did you mean 'random'"),
        (
            {"backend": {"name": "optuna", "pruner": "median"}, "objectives": ["latency"]},
            "'pruner' must be None where there are several directions",
        ),
        ({"prune": "folds", "objectives": ["latency"]}, "'prune' must be None beside 'objectives', .* another, got"),
    ],
)
def test_wrong_options_are_refused_before_the_first_trial(options: dict[str, object], message: str) -> None:
    if "optuna" in str(options):
        pytest.importorskip("optuna")
    with pytest.raises((ConfigError, LookupError), match=message):
        Searcher(trainer(), space={"stages.0.lr": [1e-2, 1e-3]}, **options)  # type: ignore[arg-type]


def test_pruning_by_folds_needs_several(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'prune' must be None where there is one fold"):
        Searcher(trainer(), space={"stages.0.lr": [1e-2]}, prune="folds", out=tmp_path).run()


def test_folds_side_by_side_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'trainer\.executor' must be 'local' in a search"):
        Searcher(trainer(executor="processes", parallel=2), space={"stages.0.lr": [1e-2]})


def test_changes_are_checked_together() -> None:
    own = trainer(batch_size=8, accumulate=4)
    assert variant(own, {"batch_size": 4, "accumulate": 2}).accumulate == 2
    with pytest.raises(ConfigError, match="'accumulate' must leave each part two records"):
        variant(own, {"batch_size": 4})


def test_another_direction_is_refused(searcher: Searcher) -> None:
    searcher.run()
    with pytest.raises(ConfigError, match=r"'trainer\.monitor' must stay None as in the study"):
        attrs.evolve(searcher, trainer=trainer(monitor="loss")).run()


def test_values_are_those_of_the_stored_predictions(searcher: Searcher) -> None:
    for entry in searcher.run().entries:
        found = Predictions.load(searcher.out / f"trial_{entry.trial.number:04d}" / "fold_0" / "predictions_val.npz")
        assert entry.outcome is not None
        precision = average_precision_score(found.labels == found.positive_index, found.scores)
        assert entry.outcome.values[0] == pytest.approx(precision, abs=1e-6)


def test_values_over_folds_have_a_t_interval() -> None:
    values = [0.7, 0.8, 0.95]
    done = Outcome("complete", values=np.mean(values), facts={"values": values})
    (row,) = rows([Entry(trial=Trial(number=0, params={"lr": 0.1}), outcome=done)])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected))
    single = attrs.evolve(done, facts={"values": [0.7]})
    assert rows([Entry(trial=Trial(number=0, params={}), outcome=single)])[0]["low"] is None
