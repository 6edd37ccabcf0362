"""The Searcher: a Trainer, a space and a backend become a study of many runs."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
import numpy as np

from imgcls.core import config, options
from imgcls.core.errors import ConfigError, ImgclsError, PluginContractError, RunError
from imgcls.core.folders import hold, read_json, write_json, write_text
from imgcls.core.progress import say
from imgcls.core.randomness import generator
from imgcls.data.dataset import Dataset
from imgcls.run import Run, load_run
from imgcls.search.base import SearchBackend, Study, search_backends
from imgcls.search.space import Space
from imgcls.search.table import best, table
from imgcls.search.trials import Entry, Outcome, Trial
from imgcls.trainer import Trainer
from imgcls.training.monitor import monitor_direction

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Search", "Searcher"]

#: Options that say what trials are measured on or by; a space that varied them would compare apples and pears.
_FIXED = frozenset({"data", "test", "splitter", "seed", "monitor", "decision", "out", "callbacks"})


def _space(value: Any) -> Space:
    return Space.of(value)


def _backend(spec: Any) -> SearchBackend:
    return search_backends.create(spec)


@final
@attrs.frozen(kw_only=True)
class Searcher:
    """Tries variants of a Trainer and keeps the best.

    Each trial is a run of its own. Its value is the monitored metric of the checkpoint that
    is kept, on validation records, as the mean over folds; the metric says whether more or
    less is better. All trials have the same folds and share the decoded store. Trial 0 is
    the Trainer as it is. A trial that fails is recorded with its reason and ends nothing.
    The same call continues a study that was interrupted.

    Attributes:
        trainer: The Trainer to vary.
        space: Parameters by dotted path into the Trainer, such as `stages.1.lr`; a list
            means a choice.
        backend: Proposes the trials: a name, a spec or a backend.
        trials: The total wanted; None goes on until the space is exhausted.
        seed: The seed of the proposals.
        out: The study's folder.
    """

    trainer: Trainer = attrs.field(kw_only=False, validator=options.instance(Trainer))
    space: Space = attrs.field(converter=_space)
    backend: SearchBackend = attrs.field(factory=lambda: search_backends.create("random"), converter=_backend)
    trials: int | None = attrs.field(default=20, validator=options.optional(options.count(1)))
    seed: int = attrs.field(default=0, validator=options.seed())
    out: Path = attrs.field(default=Path("runs/search"), converter=Path)

    def __attrs_post_init__(self) -> None:
        for path in self.space:
            if path.split(".")[0] in _FIXED:
                raise ConfigError(f"'space' must leave {path!r} alone, or trials could not be compared; take it out")
        # A path that leads nowhere is an error here, not in some trial.
        config.replace(self.trainer, self.space.sample(generator(self.seed, "paths")))

    @property
    def monitor(self) -> str:
        """The metric that is searched for."""
        return self.trainer.monitored

    def run(self) -> Search:
        """Run the trials that are missing.

        Returns:
            The study with all its trials.
        """
        with hold(self.out / ".lock", timeout=0):
            self._agree()
            study = self.backend.open(
                self.space,
                directions=f"{monitor_direction(self.monitor)}imize",
                folder=self.out / "study",
                seed=self.seed,
                trials=self.trials,
                first={},
            )
            while (trial := study.ask()) is not None:
                outcome = self._try(trial)
                study.tell(trial, outcome)
                say(f"Trial {trial.number}: {outcome.state} {_shown(outcome)} {dict(trial.params)}")
            return self._finish(study)

    # Trials of one study differ in the space alone.
    def _agree(self) -> None:
        test = self.trainer.test.fingerprint if isinstance(self.trainer.test, Dataset) else None
        settings = {key: value for key, value in self.trainer.to_config().items() if key not in {"data", "out"}}
        facts = {"data": self.trainer.data.fingerprint, "test": test, **settings}
        path = self.out / "trainer.json"
        if path.exists() and any((self.out / "study").glob("trials/*")):
            kept = read_json(path)
            for key, value in facts.items():
                if kept.get(key) != value:
                    what = f"'trainer.{key}' must stay {kept.get(key)!r} as in the study of {str(self.out)!r}"
                    raise ConfigError(f"{what}, got {value!r}; change it back or use a new folder")
        write_json(path, facts)

    def load(self, entry: Entry) -> Run:
        """Open the run of a trial.

        Args:
            entry: The trial.

        Returns:
            Its run.
        """
        return self._opened(self._folder(entry.trial))

    def _opened(self, folder: Path) -> Run:
        test = self.trainer.test if isinstance(self.trainer.test, Dataset) else None
        return load_run(folder, data=self.trainer.data, test=test)

    def _folder(self, trial: Trial) -> Path:
        return self.out / f"trial_{trial.number:04d}"

    def _try(self, trial: Trial) -> Outcome:
        if trial.budget is not None:
            raise PluginContractError("the backend must ask for whole trainings, got a budget; use another one")
        try:
            run = self._trained(trial)
        except Exception as error:  # whatever happens in a trial is its outcome; only a signal ends the study
            return Outcome("failed", reason=f"{type(error).__name__}: {error}")
        values = run.facts["objective"]
        if None in values:
            return Outcome("failed", reason=f"{self.monitor} is not a number in fold {values.index(None)}")
        return Outcome("complete", values=float(np.mean(values)))

    def _trained(self, trial: Trial) -> Run:
        folder = self._folder(trial)
        try:
            return self._opened(folder)  # finished, but the study was ended before it was told
        except RunError:
            shutil.rmtree(folder, ignore_errors=True)
        return config.replace(self.trainer, {**trial.params, "out": str(folder)}).fit()

    def _finish(self, study: Study) -> Search:
        search = Search(searcher=self, entries=tuple(study.entries))
        write_text(self.out / "trials.csv", search.table.to_csv(index=False))
        if search.winner is not None:
            write_text(self.out / "best.yaml", config.to_yaml(search.best_trainer().to_config()))
        return search


def _shown(outcome: Outcome) -> str:
    return outcome.reason if outcome.state == "failed" else ", ".join(f"{value:.4f}" for value in outcome.values)


@attrs.frozen(kw_only=True, eq=False)
class Search:
    """The results of a study.

    Attributes:
        searcher: What was searched.
        entries: The trials with their outcomes.
    """

    searcher: Searcher
    entries: tuple[Entry, ...] = attrs.field(repr=False)

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """A row a trial: number, state, parameters, value and reason."""
        import pandas as pd

        return pd.DataFrame(table(self.entries))

    @functools.cached_property
    def winner(self) -> Entry | None:
        """The best trial that completed, or None."""
        return best(self.entries, direction=f"{monitor_direction(self.searcher.monitor)}imize")

    @property
    def best(self) -> Run:
        """The run of the best trial.

        Raises:
            ImgclsError: if no trial completed.
        """
        return self.searcher.load(self._won())

    def best_trainer(self) -> Trainer:
        """Give the Trainer of the best trial.

        Returns:
            A Trainer with its parameters, the folder left open.
        """
        return config.replace(self.searcher.trainer, {**self._won().trial.params, "out": None})

    def _won(self) -> Entry:
        if self.winner is None:
            reasons = {entry.outcome.reason for entry in self.entries if entry.outcome is not None}
            raise ImgclsError(f"the study must have a trial that completed, got only failures: {sorted(reasons)[:3]}")
        return self.winner
