"""A Trainer at work: a folder, its folds one after the other, and the run they become."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch

from imgcls.augment.augment import Augment
from imgcls.balancing.balancer import Balancer
from imgcls.core import config
from imgcls.core.dumping import dump
from imgcls.core.environment import environment
from imgcls.core.errors import RunError
from imgcls.core.folders import hold, read_json, write_json, write_text
from imgcls.core.logs import run_logs
from imgcls.core.options import rejected
from imgcls.core.progress import say, warn
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds
from imgcls.evaluation.baselines import warnings_of
from imgcls.evaluation.calibration import save_calibrations
from imgcls.evaluation.findings import calibrated, write_findings
from imgcls.evaluation.openings import digest_of, note_opening
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.results import conclude, with_repeats
from imgcls.execution.sending import refuse_unsendable
from imgcls.inference.comparing import compare_with_baselines, known_of
from imgcls.inference.saved import SavedModel
from imgcls.preparing import divide, prepare
from imgcls.run import Run, finish_run, load_run
from imgcls.runtime.device import Runtime, deterministic, pick_device
from imgcls.runtime.interruption import interruptible
from imgcls.runtime.memory import keep_memory
from imgcls.runtime.ranks import Ranks, joined
from imgcls.runtime.sources import Resident
from imgcls.splitting.predefined import Predefined
from imgcls.tracking.base import RunInfo
from imgcls.tracking.together import TrackedRun, tracked
from imgcls.training.continuing import find_folder, is_begun, is_finished, refuse_changed
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.fold import FoldResult, train_fold
from imgcls.training.optimizers import AdamW
from imgcls.training.planning import Recipe
from imgcls.training.schedules import OneCycle
from imgcls.training.side_by_side import check_cluster, fewer_threads, train_side_by_side
from imgcls.training.skipping import skipped, write_skipped

if TYPE_CHECKING:
    from imgcls.trainer import Trainer

__all__ = ["fit_run", "folds_of_run"]

#: What a stage takes from the Trainer where it has none of its own, and what that is by itself.
_SHARED: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {"augment": Augment, "balancer": Balancer, "optimizer": AdamW, "schedule": OneCycle}
)

#: Steps between two points that trackers are told.
_TOLD = 10


def fit_run(trainer: Trainer, *, resume: str) -> Run:
    """Train every fold, predict what it did not see, and evaluate.

    Args:
        trainer: The Trainer.
        resume: As for `Trainer.fit`.

    Returns:
        The finished run.
    """
    with joined(pick_device(trainer.device)) as ranks, interruptible(), _at_work(trainer):
        if trainer.executor != "local":
            _refuse_not_alone(trainer, ranks)
        folder = Path(ranks.told(str(find_folder(trainer.out, resume)) if ranks.first else None))
        with hold(folder / ".lock", timeout=0) if ranks.first else contextlib.nullcontext():
            _fit(trainer, folder, ranks)
            ranks.wait()
    test = trainer.test if isinstance(trainer.test, Dataset) else None
    return load_run(folder, data=trainer.data, test=test, backbone=trainer.backbone)


@contextlib.contextmanager
def folds_of_run(trainer: Trainer) -> Iterator[tuple[Folds, Recipe]]:
    """Begin a run in `out`, or go on with one, whose folds the block trains as it likes.

    Args:
        trainer: The Trainer; its folds train in this process.

    Yields:
        The folds, and what their training shares. `fit_run` of the same Trainer trains the rest and finishes the run.
    """
    with joined(pick_device(trainer.device)) as ranks, interruptible(), _at_work(trainer):
        folder = Path(ranks.told(str(find_folder(trainer.out, "auto")) if ranks.first else None))
        with hold(folder / ".lock", timeout=0) if ranks.first else contextlib.nullcontext():
            begun = _is_continued(trainer, folder, ranks)
            folds, recipe = _begun(trainer, folder, ranks) if begun else _new(trainer, folder, ranks)
            with _listened(trainer, recipe, folder, begun=begun) as (told, _):
                yield folds, told


def _is_continued(trainer: Trainer, folder: Path, ranks: Ranks) -> bool:
    begun = bool(ranks.told(is_begun(folder)))
    if begun:
        refuse_changed(folder, trainer.to_config())
        _refuse_other_data(trainer, folder)
    return begun


def _fit(trainer: Trainer, folder: Path, ranks: Ranks) -> None:
    begun = _is_continued(trainer, folder, ranks)
    if ranks.told(is_finished(folder)):
        say(f"{folder} is finished already")
        return
    started = time.time()
    folds, recipe = _begun(trainer, folder, ranks) if begun else _new(trainer, folder, ranks)
    with _listened(trainer, recipe, folder, begun=begun) as (recipe, live):
        if ranks.first and not begun:
            _warn_of_unused(trainer)
        if trainer.executor != "local":
            _train_side_by_side(trainer, recipe, folder, len(folds))
        results = [
            train_fold(recipe, fold, number, folder / f"fold_{number}", label=f"Fold {number + 1}/{len(folds)}")
            for number, fold in enumerate(folds)
        ]
        if ranks.first:
            noted = _conclude(trainer, folder, results, folds, recipe=recipe, live=live)
    if ranks.first:
        seconds = round(time.time() - started, 1)
        _finish(trainer, folder, results, seconds=seconds, skipped=skipped(recipe), test_openings=noted)


# Not refused: a search may give each stage its own of what the Trainer has.
def _warn_of_unused(trainer: Trainer) -> None:
    for name, plain in _SHARED.items():
        if getattr(trainer, name) != plain() and all(getattr(stage, name) is not None for stage in trainer.stages):
            warn(f"{name!r} of the Trainer has no effect, since every stage has its own")


# What the Trainer asks of torch, here and in the processes of folds.
@contextlib.contextmanager
def _at_work(trainer: Trainer) -> Iterator[None]:
    keep_memory()
    with fewer_threads(trainer.parallel, trainer.executor), deterministic(trainer.deterministic):
        yield


def _refuse_not_alone(trainer: Trainer, ranks: Ranks) -> None:
    if ranks.world > 1:
        rule = "be 'local' under torchrun, whose processes train together"
        raise rejected("executor", rule, trainer.executor)
    check_cluster(trainer.executor, trainer.device)
    refuse_unsendable(_sent(trainer, num_folds=1))


def _train_side_by_side(trainer: Trainer, recipe: Recipe, folder: Path, num_folds: int) -> None:
    train_side_by_side(
        _sent(trainer, num_folds=num_folds),
        _train_alone,
        folder=folder,
        num_folds=num_folds,
        epochs=sum(stage.epochs for stage in trainer.stages),
        executor=trainer.executor,
        parallel=trainer.parallel,
        device=trainer.device,
        callbacks=recipe.callbacks,
    )


# Callbacks and trackers stay here and are told of what happens; folds that train at one time share no time.
def _sent(trainer: Trainer, *, num_folds: int) -> Trainer:
    shares = num_folds / math.ceil(num_folds / trainer.parallel)
    return attrs.evolve(
        trainer,
        callbacks=(),
        trackers=(),
        executor="local",
        parallel=1,
        workers=torch.get_num_threads() if trainer.workers == "auto" else trainer.workers,
        max_time=None if trainer.max_time is None else trainer.max_time * shares,
    )


# What a process of its own does; the recorded runtime holds there as well.
def _train_alone(trainer: Trainer, tell: Callable[[StepEnd | EpochEnd], None], *, folder: Path, number: int) -> None:
    name = f"fold_{number}"
    with interruptible(), _at_work(trainer), run_logs(folder / "logs" / name):
        folds, recipe = _begun(trainer, folder, Ranks())
        train_fold(attrs.evolve(recipe, callbacks=(tell,)), folds[number], number, folder / name, label=name)


def _begun(trainer: Trainer, folder: Path, ranks: Ranks) -> tuple[Folds, Recipe]:
    folds = Folds.load(folder / "splits.json", trainer.data)
    recipe, _ = prepare(trainer, num_folds=len(folds), ranks=ranks, runtime=_runtime_of(folder))
    return folds, recipe


def _new(trainer: Trainer, folder: Path, ranks: Ranks) -> tuple[Folds, Recipe]:
    try:
        folds = divide(trainer)  # what is wrong with them is said before anything is decoded
        recipe, model = prepare(trainer, num_folds=len(folds), ranks=ranks, runtime=None)
        folds = divide(trainer, recipe.bad) if recipe.bad else folds
    except BaseException:
        _give_back(folder, ranks)
        raise
    ranks.wait()
    if ranks.first:
        _begin(trainer, folder, folds, model, recipe)
    ranks.wait()
    return folds, recipe


# A folder that was made for nothing is taken back.
def _give_back(folder: Path, ranks: Ranks) -> None:
    if ranks.first:
        (folder / ".lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _refuse_other_data(trainer: Trainer, folder: Path) -> None:
    known = read_json(folder / "environment.json")["fingerprints"]
    for name, data in (("data", trainer.data), ("test", trainer.test)):
        if isinstance(data, Dataset) and data.fingerprint != known[name]:
            raise RunError(
                f"the run in {str(folder)!r} must be continued with its own {name!r}, got other records, labels, "
                "groups or file sizes; put them back, or choose another 'out'"
            )


# What was measured at the beginning holds to the end.
def _runtime_of(folder: Path) -> Runtime:
    runtime = Runtime(**read_json(folder / "environment.json")["runtime"])
    if runtime.threads != torch.get_num_threads():
        say(
            f"This run began with {runtime.threads} threads and goes on with {torch.get_num_threads()}: its last "
            "digits may differ from those of a run without interruption"
        )
    return runtime


def _begin(trainer: Trainer, folder: Path, folds: Folds, model: SavedModel, recipe: Recipe) -> None:
    write_json(folder / "environment.json", environment(**_facts(trainer, recipe)))
    write_text(folder / "manifest.csv", trainer.data.frame.to_csv(index=False))
    folds.save(folder / "splits.json", trainer.data)
    model.save(folder / "model.json")
    if skipped(recipe):
        write_skipped(folder / "skipped.csv", recipe)
    write_text(folder / "config.yaml", config.to_yaml(trainer.to_config()))  # last: from now on the run has begun


def _announce(trainer: Trainer, folder: Path) -> None:
    data = trainer.data
    if trainer.fast_run:
        warn("A fast run: two steps in each stage, to see that everything works; its numbers mean nothing")
    if data.positive is not None and not data.positive_given:
        say(f"Positive class: {data.positive} (the rarer one; name another with 'positive')")
    if not isinstance(trainer.splitter, Predefined) and data.splits is not None and np.any(data.splits == "val"):
        say("The set's own validation records join the others (splitter 'predefined' keeps them apart)")
    if "name" not in read_json(folder / "model.json")["backbone"]:
        say("The backbone is not declared by any distribution: to open this run again, give it to 'load_run'")


def _facts(trainer: Trainer, recipe: Recipe) -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    tested = trainer.test.fingerprint if isinstance(trainer.test, Dataset) else None
    return {
        "runtime": attrs.asdict(recipe.runtime),
        "torch": {"cuda": torch.version.cuda, "gpus": gpus},
        "unmatched_weights": dump(recipe.unmatched),
        "seed": trainer.seed,
        "processes": recipe.ranks.world,
        "fingerprints": {"data": trainer.data.fingerprint, "test": tested},
    }


# Trackers and logs hear of everything in the first process.
@contextlib.contextmanager
def _listened(
    trainer: Trainer, recipe: Recipe, folder: Path, *, begun: bool
) -> Iterator[tuple[Recipe, TrackedRun | None]]:
    if not recipe.ranks.first:
        yield recipe, None
        return
    info = RunInfo(
        folder=folder,
        config=trainer.to_config(),
        environment=read_json(folder / "environment.json"),
        fingerprint=trainer.data.fingerprint,
        resumed=begun,
    )
    with run_logs(folder / "logs"), tracked(trainer.trackers, info) as live:
        if not begun:
            _announce(trainer, folder)
        live.log_artifact(folder / "config.yaml")
        yield attrs.evolve(recipe, callbacks=(*recipe.callbacks, _teller(live))), live


def _teller(live: TrackedRun) -> Callable[[StepEnd | EpochEnd], None]:
    def tell(event: StepEnd | EpochEnd) -> None:
        if isinstance(event, EpochEnd):
            train = {f"train/{name}": value for name, value in event.train.items() if name != "loss"}
            val = {f"val/{name}": value for name, value in event.val.items()}
            values = {"train/loss": event.train_loss, **train, **val, "seconds": event.seconds}
            live.log(values, step=event.step, epoch=event.epoch + 1, fold=event.fold)
        elif (event.step + 1) % _TOLD == 0:
            values = {"train/step_loss": event.loss, "lr": event.lr, "grad_norm": event.grad_norm}
            live.log(values, step=event.step + 1, epoch=event.epoch, fold=event.fold)

    return tell


# What it says of the test records is what the ledger knows of them now, or None without any.
def _conclude(
    trainer: Trainer, folder: Path, results: list[FoldResult], folds: Folds, *, recipe: Recipe, live: TrackedRun | None
) -> dict[str, Any] | None:
    val, tests = [result.val for result in results], [result.test for result in results if result.test is not None]
    if trainer.calibration is not None:
        found, val, tests = calibrated(val, tests, trainer.calibration, folds=folds, seed=trainer.seed)
        save_calibrations(folder / "calibration.json", found)
        Predictions.concat(val).save(folder / "predictions_val.npz")
    # With one fold, or one test set for all folds, every model predicts the same test records.
    same = all(np.array_equal(fold.test, folds[0].test) for fold in folds)
    fixed = isinstance(trainer.test, Dataset) or same
    rules: list[Any] = [] if trainer.rule is None else [trainer.rule]
    conclude(folder, val, tests, folds=folds, fixed=fixed, rules=rules, seed=trainer.seed)
    pooled = Predictions.concat(with_repeats(val, folds.repeats))
    final = Predictions.load(folder / "predictions_test.npz") if tests else pooled
    write_findings(folder, pooled, final)
    _compare(trainer, folder, final, folds, recipe)
    if live is not None:
        live.log_artifact(folder / "metrics.csv")
        live.log_model(folder)
    return _note(trainer, folder, final) if tests else None


# Images that are decoded on the way would cost another epoch; how they look is then told when it is asked for.
def _compare(trainer: Trainer, folder: Path, final: Predictions, folds: Folds, recipe: Recipe) -> None:
    known = known_of(trainer.data, recipe.source if isinstance(recipe.source, Resident) else None)
    tested = None
    if recipe.test is not None:
        data, source = recipe.test
        tested = known_of(data, source if isinstance(source, Resident) else None)
    table = compare_with_baselines(final, folds, known=known, tested=tested, seed=trainer.seed)
    write_text(folder / "baselines.csv", table.to_csv(index=False))
    for line in warnings_of(table):
        warn(line)


# What a run tried is noted beside its folder. When it began tells it from a later one in a folder of the same name.
def _note(trainer: Trainer, folder: Path, final: Predictions) -> dict[str, Any] | None:
    key = f"{folder.resolve()} {(folder / 'environment.json').stat().st_mtime_ns}"
    configuration = digest_of(trainer.to_config())
    try:
        found = note_opening(
            folder.resolve().parent, final, configuration=configuration, run=folder.resolve().name, key=key
        )
    except OSError as error:
        warn(f"The opening of the test records could not be noted beside {folder}: {error}")
        return None
    if found.configurations > 1:
        say(str(found))
    return attrs.asdict(found)


def _finish(trainer: Trainer, folder: Path, results: list[FoldResult], **facts: Any) -> None:
    finish_run(
        folder,
        num_folds=len(results),
        fingerprint=trainer.data.fingerprint,
        test_fingerprint=trainer.test.fingerprint if isinstance(trainer.test, Dataset) else None,
        root=trainer.data.root,
        positive_given=trainer.data.positive_given,
        mask_threshold=trainer.data.mask_threshold,
        monitor=trainer.monitored,
        objective=[result.objective for result in results],
        **facts,
    )
