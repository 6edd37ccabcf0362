"""The Searcher: a Trainer, a space and a backend become a study of many runs."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, final

import attrs

from imgcls.core import config, options
from imgcls.core.dumping import spec_of
from imgcls.core.errors import ImgclsError
from imgcls.core.folders import hold
from imgcls.core.options import rejected
from imgcls.core.progress import say
from imgcls.data.dataset import Dataset
from imgcls.execution.base import Executor
from imgcls.execution.cluster import is_executor
from imgcls.execution.local import Local
from imgcls.execution.sending import refuse_unsendable
from imgcls.preparing import divide, kept_models
from imgcls.run import Run, load_run
from imgcls.runtime.interruption import interruptible
from imgcls.runtime.together import train_together
from imgcls.search.base import SearchBackend, Study, search_backends
from imgcls.search.space import Space
from imgcls.search.trials import Entry
from imgcls.searched import Search
from imgcls.searching.agreement import agree
from imgcls.searching.conducting import Conductor, folder_of
from imgcls.searching.hparams import write_hparams
from imgcls.searching.nesting import Estimate, estimate, inner_trainers, judged
from imgcls.searching.objectives import EXTRAS
from imgcls.searching.pruning import FoldPruning
from imgcls.searching.results import write_results
from imgcls.searching.trial import Shared, run_trial
from imgcls.searching.variants import check_paths, own_point, own_values, total_epochs, variant
from imgcls.splitting.base import Splitter, splitters
from imgcls.trainer import Trainer
from imgcls.training.monitor import monitor_direction
from imgcls.training.side_by_side import check_cluster, check_ranks, executor_of, threads_each

__all__ = ["Searcher"]


def _space(value: Any) -> Space:
    return Space.of(value)


def _backend(spec: Any) -> SearchBackend:
    return search_backends.create(spec)


def _splitter(spec: Any) -> Splitter | None:
    return None if spec is None else splitters.create(spec, path="outer")


def _pruning(value: Any) -> Any:
    return FoldPruning() if value == "folds" else config.nested(FoldPruning, value, path="prune")


def _are_extras(_: Any, field: attrs.Attribute[Any], names: Any) -> None:
    wrong = [name for name in names if name not in EXTRAS] if isinstance(names, tuple) else [names]
    if wrong or len(set(names)) < len(names):
        raise rejected(field.name, f"name some of {', '.join(map(repr, EXTRAS))}, each once", list(names))


def _are_limits(_: Any, field: attrs.Attribute[Any], limits: Any) -> None:
    if not isinstance(limits, Mapping) or not set(limits) <= set(EXTRAS):
        raise rejected(field.name, f"map some of {', '.join(map(repr, EXTRAS))} to numbers", limits)
    for name, value in limits.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise rejected(f"{field.name}.{name}", "be a number above 0", value)


def _are_workers(searcher: Any, field: attrs.Attribute[Any], given: Any) -> None:
    options.count(1)(searcher, field, given)
    if searcher.executor == "local" and given > 1:
        raise rejected(field.name, "be 1 in one process", given, "choose executor 'processes' or 'ray'")


def _are_ranks(searcher: Any, field: attrs.Attribute[Any], given: Any) -> None:
    options.count(1)(searcher, field, given)
    if searcher.executor == "local" and given > 1:
        raise rejected(field.name, "be 1 in one process", given, "choose executor 'processes' or 'ray'")


@final
@attrs.frozen(kw_only=True)
class Searcher:
    """Tries variants of a Trainer and keeps the best.

    Each trial is a run in a folder of its own. Its value is the monitored metric of the checkpoint that
    is kept, on validation records, as the mean over folds; the metric says whether more or
    less is better. All trials have the same folds and share decoded images and features of frozen layers. Trial 0 is
    the Trainer as it is. A trial that fails is recorded with its reason and ends nothing. Test records are predicted
    but not judged, except by the best trial at the end. The same call continues a study that was interrupted: trials
    that are done stay done, one that was cut off goes on from its last checkpoint, and new ones are those that
    would have come anyway (of backends that learn, with one worker).

    Attributes:
        trainer: The Trainer to vary.
        space: Parameters by dotted path into the Trainer, such as `stages.1.lr`; a list
            means a choice.
        backend: Proposes the trials: a name, a spec or a backend.
        trials: The total wanted; None goes on until the space is exhausted.
        timeout: Seconds after which no trial begins and those that run stop after their epoch; the next call goes on
            with them.
        executor: `"local"` runs trials one after the other in this process, `"processes"` in processes of their
            own, which also survives what kills a trial, `"ray"` on the machines of a Ray cluster, with options of
            `Cluster`: `{"name": "ray", "cpus": 4}`.
        workers: How many processes at a time; they share the threads, and of several GPUs each has one.
        ranks: How many processes train each trial together, each on its share of every batch, as under torchrun; of
            several GPUs each has one. Not for executor `"local"`.
        prune: Stops a trial after a fold in which it was hopeless: `"folds"` or a `FoldPruning`; None trains all folds.
        objectives: What else counts, less of it being better: `"latency"` and `"parameters"` of the model. For
            backends that can search in several directions.
        limits: The most that a model may have of these, such as `{"latency": 20}`; one that has more never wins.
        retries: How often a trial is tried again whose process was killed or had no memory left; the latter with
            each batch in twice as many parts.
        outer: A splitter: in each of its folds a search of its own sees the records outside of test, and its best
            Trainer is judged on test. This says how good the searching is; the best Trainer is then searched with
            all records.
        seed: The seed of the proposals.
        out: The study's folder.
    """

    trainer: Trainer = attrs.field(kw_only=False, validator=options.instance(Trainer))
    space: Space = attrs.field(converter=_space)
    backend: SearchBackend = attrs.field(factory=lambda: search_backends.create("random"), converter=_backend)
    trials: int | None = attrs.field(default=20, validator=options.optional(options.count(1)))
    timeout: float | None = attrs.field(default=None, validator=options.optional(options.number(0, above=True)))
    executor: str | Mapping[str, Any] = attrs.field(default="local", validator=is_executor)
    workers: int = attrs.field(default=1, validator=_are_workers)
    ranks: int = attrs.field(default=1, validator=_are_ranks)
    prune: FoldPruning | None = attrs.field(
        default=None, converter=_pruning, validator=options.optional(options.instance(FoldPruning))
    )
    objectives: tuple[str, ...] = attrs.field(default=(), converter=options.texts, validator=_are_extras)
    limits: Mapping[str, float] = attrs.field(factory=dict, validator=_are_limits)
    retries: int = attrs.field(default=1, validator=options.count(0))
    outer: Splitter | None = attrs.field(default=None, converter=_splitter)
    seed: int = attrs.field(default=0, validator=options.seed())
    out: Path = attrs.field(default=Path("runs/search"), converter=Path)

    def __attrs_post_init__(self) -> None:
        check_paths(self.trainer, self.space, self.seed)
        if self.trainer.executor != "local":
            rule = "be 'local' in a search, whose trials train their folds one after the other"
            remedy = "take Searcher(executor='processes', workers=...)"
            raise rejected("trainer.executor", rule, self.trainer.executor, remedy)
        if self.prune is not None and self.objectives:
            rule = "be None beside 'objectives', since a trial that is behind in the metric may be ahead in another"
            raise rejected("prune", rule, self.prune)
        if self.executor != "local":
            check_cluster(self.executor, self.trainer.device)
            check_ranks(self.executor, self.ranks, self.trainer.device)
            if self.trainer.callbacks:
                rule = "be empty where trials run in processes of their own"
                raise rejected("trainer.callbacks", rule, list(self.trainer.callbacks))
            refuse_unsendable(self.trainer)
        with tempfile.TemporaryDirectory() as folder:  # what a backend refuses is said before the first trial
            self._opened(Path(folder))

    @classmethod
    def from_config(cls, options: Mapping[str, Any]) -> Searcher:
        """Make a Searcher from plain values, such as those of a YAML file.

        Args:
            options: Those of `Trainer.from_config`, and under `search` those of the Searcher.

        Returns:
            The Searcher.

        Raises:
            ConfigError: if an option is unknown or wrong; the message has its path.
        """
        own = options.get("search")
        if not isinstance(own, Mapping) or "trainer" in own:
            raise rejected("search", "hold 'space' and the other options of a Searcher", own)
        trainer = Trainer.from_config({name: value for name, value in options.items() if name != "search"})
        return config.build(cls, {"trainer": trainer, **own}, path="search")

    @property
    def monitor(self) -> str:
        """The metric that is searched for."""
        return self.trainer.monitored

    @property
    def direction(self) -> str:
        """Whether the metric is to `maximize` or to `minimize`."""
        return f"{monitor_direction(self.monitor)}imize"

    def run(self) -> Search:
        """Run the trials that are missing.

        Returns:
            The study with all its trials.

        Raises:
            ConfigError: if the folder holds a study that differs in space, data, Trainer or another option that
                trials depend on; the difference is named.
        """
        with hold(self.out / ".lock", timeout=0), kept_models(), self._stopped_by_signals():
            self._check_folds()
            agree(self.out, self.trainer, self._settings())
            until = None if self.timeout is None else time.time() + self.timeout
            found = None if self.outer is None else self._nested(self.outer, until)
            study = self._opened(self.out / "study")
            done = self._conductor(study, until).conduct(self._executor())
            return self._finished(study, found, done=done)

    # Trials in this process see to it themselves.
    def _stopped_by_signals(self) -> AbstractContextManager[None]:
        return nullcontext() if self.executor == "local" else interruptible()

    # A search inside of each outer fold; None where the time was over before all had a winner.
    def _nested(self, outer: Splitter, until: float | None) -> Estimate | None:
        found = []
        for fold, trainer in enumerate(inner_trainers(self.trainer, outer)):
            timeout = None if until is None else max(1e-3, until - time.time())
            say(f"Outer fold {fold + 1}")
            out = self.out / f"outer_{fold}"
            inner = attrs.evolve(self, trainer=trainer, outer=None, timeout=timeout, out=out).run()
            if not inner.done or inner.winner is None or inner.winner.outcome is None:
                return None
            trial, val = inner.winner.trial, inner.winner.outcome.values[0]
            found.append(judged(fold, trial.number, trial.params, val, inner.best))
        return estimate(found, monitor=self.monitor, seed=self.seed)

    # What is wrong with them would be wrong in every trial.
    def _check_folds(self) -> None:
        folds = divide(self.trainer)
        if self.prune is not None and len(folds) == 1:
            raise rejected("prune", "be None where there is one fold", self.prune)

    # What trials are compared by.
    def _settings(self) -> dict[str, Any]:
        prune = None if self.prune is None else attrs.asdict(self.prune)
        outer = None if self.outer is None else spec_of(self.outer)
        found = {"objectives": list(self.objectives), "limits": dict(self.limits), "prune": prune, "outer": outer}
        return {**found, "ranks": self.ranks}  # batch norm sees the share of one process

    def _opened(self, folder: Path) -> Study:
        return self.backend.open(
            self.space,
            directions=[self.direction, *("minimize" for _ in self.objectives)],
            folder=folder,
            seed=self.seed,
            trials=self.trials,
            first=own_point(self.trainer, self.space),
            epochs=total_epochs(self.trainer),
        )

    def _conductor(self, study: Study, until: float | None) -> Conductor:
        extras = tuple(dict.fromkeys([*self.objectives, *self.limits]))
        return Conductor(
            study=study,
            shared=Shared(trainer=self._sent(), extras=extras, until=until),
            monitor=self.monitor,
            objectives=self.objectives,
            limits=dict(self.limits),
            prune=self.prune,
            retries=self.retries,
            out=self.out,
            own=own_values(self.trainer, self.space),
            **({} if self.ranks == 1 else {"run": functools.partial(train_together, run_trial, ranks=self.ranks)}),
        )

    def _sent(self) -> Trainer:
        if self.executor == "local" or self.trainer.workers != "auto":
            return self.trainer
        return attrs.evolve(self.trainer, workers=self._threads())

    def _threads(self) -> int:
        return threads_each(self.executor, self.workers, self.ranks)

    def _executor(self) -> Executor:
        if self.executor == "local":
            return Local()
        return executor_of(
            self.executor,
            self.out,
            parallel=self.workers,
            threads=self._threads(),
            device=self.trainer.device,
            ranks=self.ranks,
            reuse=True,
        )

    def load(self, entry: Entry) -> Run:
        """Open the run of a trial; one that is not judged yet is, on its test records too.

        Args:
            entry: The trial.

        Returns:
            Its run.

        Raises:
            ImgclsError: if the trial did not come to its end.
        """
        folder = folder_of(self.out, entry.trial)
        test = self.trainer.test if isinstance(self.trainer.test, Dataset) else None
        if (folder / "run.json").exists():
            return load_run(folder, data=self.trainer.data, test=test, backbone=None)
        if entry.outcome is None or entry.outcome.state != "complete":
            state = "unfinished" if entry.outcome is None else entry.outcome.state
            raise ImgclsError(f"trial {entry.trial.number} must be complete to be opened as a run, got {state}")
        return variant(self.trainer, {**entry.trial.params, "out": str(folder)}).fit()

    def _finished(self, study: Study, found: Estimate | None, *, done: bool) -> Search:
        search = Search(searcher=self, entries=tuple(study.entries), estimate=found, done=done)
        if not done:
            say(f"The time is over; the same call goes on with {self.out}")
        elif self.trials is not None and len(search.entries) < self.trials:
            say(f"The space has no more than {len(search.entries)} trials, and all are done")
        if done and search.winner is not None:  # what is only ahead so far is not judged on test records
            self.load(search.winner)
        write_results(
            self.out,
            search.entries,
            self.space,
            monitor=self.monitor,
            direction=self.direction,
            optimism=search.optimism,
            estimate=found,
            configuration=None if search.winner is None else search.best_trainer().to_config(),
        )
        write_hparams(self.out / "tensorboard", search.entries, metric=self.monitor)
        for line in search.lines():
            say(line)
        return search
