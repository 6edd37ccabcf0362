import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls import Dataset, Run, Trainer
from imgcls.core.errors import ConfigError, RunError
from imgcls.core.folders import hold
from imgcls.runtime.checkpoints import load_checkpoint
from imgcls.runtime.interruption import Interrupted
from imgcls.testing import blobs
from imgcls.training.events import EpochEnd, StepEnd

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = blobs(size=8)

Fit = Callable[..., Run]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    """Train in the same folder; changes are of the Trainer."""

    def train(data: Dataset = DATA, *, resume: str = "auto", **changes: Any) -> Run:
        options: dict[str, Any] = {
            "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
            "image": {"size": 8, "channels": 1},
            "splitter": {"name": "holdout", "val": 0.3, "test": 0.3},
            "stages": [{"epochs": 2, "lr": 0.03}],
            "batch_size": 8,
            "device": "cpu",
            "precision": "fp32",
            "out": tmp_path / "run",
            **changes,
        }
        return Trainer(data, **options).fit(resume=resume)

    return train


def stop(event: StepEnd | EpochEnd) -> None:
    if isinstance(event, StepEnd) and event.step == 1:
        signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def stopped(fit: Fit) -> Fit:
    """Begin a run and stop it; what is returned goes on."""
    with pytest.raises(Interrupted):
        fit(callbacks=(stop,))
    return fit


class Steps:
    """Counts the steps of a training."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def __call__(self, event: StepEnd | EpochEnd) -> None:
        if isinstance(event, StepEnd):
            self.steps.append(event.step)


def test_a_stopped_run_goes_on_where_it_was(stopped: Fit) -> None:
    heard = Steps()
    assert stopped(callbacks=(heard,)).facts["status"] == "complete"
    assert heard.steps[0] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 4}, "batch_size: 4 instead of 8"),
        ({"seed": 7}, "seed: 7 instead of 42"),
        ({"stages": [{"epochs": 2, "lr": 0.01}]}, r"stages.0.lr: 0.01 instead of 0.03"),
        ({"stages": [{"epochs": 2, "lr": 0.03}] * 2}, "stages: .* instead of"),
        ({"backbone": {"name": "small-cnn", "base": 8, "depth": 2}}, r"backbone.base: 8 instead of 4"),
        ({"clip_grad": 1.0, "ema": {}}, "clip_grad: 1.0 instead of None.*ema: "),
        ({"precision": "bf16"}, "precision: 'bf16' instead of 'fp32'"),
    ],
)
def test_other_options_are_refused_with_both_values(changes: dict[str, Any], message: str, stopped: Fit) -> None:
    with pytest.raises(RunError, match=rf"must be continued with its own options, got .*{message}"):
        stopped(**changes)


@pytest.mark.parametrize(
    "changes", [{"workers": 1}, {"checkpoint_every": 1}, {"max_time": 1e6}, {"snapshots": {}}, {"store": "disk"}]
)
def test_options_that_change_nothing_may_change(changes: dict[str, Any], stopped: Fit) -> None:
    assert stopped(**changes).facts["status"] == "complete"


def test_other_data_is_refused(stopped: Fit) -> None:
    with pytest.raises(RunError, match=r"must be continued with its own .*(records|opaque)"):
        stopped(blobs(size=8, seed=1))


def test_a_finished_run_is_opened_and_not_trained_again(fit: Fit) -> None:
    heard = Steps()
    first, again = fit(), fit(callbacks=(heard,))
    assert not heard.steps
    assert again.facts == first.facts


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_can_be_kept_from_going_on(finished: bool, fit: Fit) -> None:
    if finished:
        fit()
    else:
        with pytest.raises(Interrupted):
            fit(callbacks=(stop,))
    with pytest.raises(RunError, match="'out' must be a new or empty folder"):
        fit(resume="never")


def test_how_to_go_on_is_one_of_two_words(fit: Fit) -> None:
    with pytest.raises(ConfigError, match="'resume' must be one of"):
        fit(resume="always")


def test_a_run_that_another_process_trains_is_refused(stopped: Fit, tmp_path: Path) -> None:
    with hold(tmp_path / "run" / ".lock"), pytest.raises(RunError, match="is held by another process"):
        stopped()


def test_what_a_process_left_that_was_killed_before_training_is_no_run(fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("environment.json", "splits.json", ".manifest.csv.tmp-3", ".lock"):
        (tmp_path / "run" / name).write_text("half")
    assert fit().facts["status"] == "complete"


def test_a_folder_with_other_files_is_refused(fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    with pytest.raises(RunError, match="'out' must be a new or empty folder"):
        fit()


# What else the options of the engine promise


def test_snapshots_are_every_nth_epoch_and_only_so_many(fit: Fit) -> None:
    run = fit(stages=[{"epochs": 7, "lr": 0.01}], snapshots={"every": 2, "keep": 2})
    kept = sorted((run.folder / "fold_0" / "checkpoints" / "epochs").iterdir())
    assert [load_checkpoint(folder).facts["epoch"] for folder in kept] == [3, 5]  # of 1, 3 and 5


def test_the_last_checkpoint_keeps_its_weights_alone_when_the_fold_is_done(fit: Fit) -> None:
    run = fit(average=2)
    assert load_checkpoint(run.folder / "fold_0" / "checkpoints" / "last").state is None
    assert not (run.folder / "fold_0" / "checkpoints" / "top").exists()


def test_the_objective_is_that_of_the_weights_that_are_kept(fit: Fit) -> None:
    run = fit(average=3, stages=[{"epochs": 5, "lr": 0.02}], monitor="loss")
    facts = load_checkpoint(run.folder / "fold_0" / "checkpoints" / "best").facts
    found = run.predictions("val")
    loss = -np.log(found.probs[np.arange(len(found.labels)), found.labels]).mean()
    assert run.facts["objective"][0] == facts["values"]["loss"] == pytest.approx(loss, abs=1e-5)


def test_each_fold_may_have_a_seed_of_its_own(fit: Fit, tmp_path: Path) -> None:
    folds = {"splitter": {"name": "stratified-group-kfold", "k": 2}, "stages": [{"epochs": 1, "lr": 0.01}]}
    runs = [fit(fold_seeds=seeds, out=tmp_path / str(seeds), **folds) for seeds in ((1, 2), (1, 3))]
    first, second = (
        [load_checkpoint(run.folder / f"fold_{fold}" / "checkpoints" / "last").weights for run in runs]
        for fold in (0, 1)
    )
    assert all(value.equal(first[1][name]) for name, value in first[0].items())
    assert not all(value.equal(second[1][name]) for name, value in second[0].items())


def test_every_fold_ends_after_the_epoch_in_which_its_time_is_over(fit: Fit) -> None:
    folds = {"splitter": {"name": "stratified-group-kfold", "k": 2}, "stages": [{"epochs": 50, "lr": 0.01}] * 2}
    run = fit(max_time=1e-3, **folds)
    assert run.history.groupby("fold").size().tolist() == [1, 1]


def test_no_callback_hears_a_step_twice(stopped: Fit) -> None:
    heard = Steps()
    stopped(callbacks=(heard,))
    assert heard.steps == sorted(set(heard.steps))
