"""What came out of a search."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from imgcls.core.errors import ImgclsError
from imgcls.run import Run
from imgcls.search.table import best, front
from imgcls.search.trials import Entry
from imgcls.searching.nesting import Estimate
from imgcls.searching.optimism import Optimism
from imgcls.searching.results import optimism_of, rows
from imgcls.searching.variants import variant
from imgcls.trainer import Trainer

if TYPE_CHECKING:
    import pandas as pd

    from imgcls.searcher import Searcher

__all__ = ["Search"]


@attrs.frozen(kw_only=True, eq=False)
class Search:
    """The results of a study.

    Attributes:
        searcher: What was searched.
        entries: The trials with their outcomes.
        estimate: What the outer folds say of the winner of such a search; None without them.
        done: Whether the study is at its end; False where the time was over before.
    """

    searcher: Searcher
    entries: tuple[Entry, ...] = attrs.field(repr=False)
    estimate: Estimate | None = None
    done: bool = True

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """A row a trial: number, state, parameters, value, its deviation over folds, epochs, seconds and reason."""
        import pandas as pd

        return pd.DataFrame(rows(self.entries))

    @functools.cached_property
    def winner(self) -> Entry | None:
        """The best trial that completed, by the metric, among those that keep the limits, or None."""
        return best(self.entries, direction=self.searcher.direction)

    @property
    def front(self) -> list[Entry]:
        """The trials that no other one beats in the metric and in every objective."""
        directions = [self.searcher.direction, *("minimize" for _ in self.searcher.objectives)]
        return front(self.entries, directions=directions)

    @functools.cached_property
    def optimism(self) -> Optimism | None:
        """How much the value of the best trial flatters; None where that cannot be estimated."""
        searcher = self.searcher
        return optimism_of(
            self.entries, searcher.out, monitor=searcher.monitor, direction=searcher.direction, seed=searcher.seed
        )

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
        return variant(self.searcher.trainer, {**self._won().trial.params, "out": None})

    def lines(self) -> Sequence[str]:
        """Say in a few lines what came out.

        Returns:
            The lines.
        """
        found = [f"Trials: {self.searcher.out / 'trials.csv'}"]
        if self.winner is not None and self.winner.outcome is not None:
            value = self.winner.outcome.values[0]
            found.append(f"Best: trial {self.winner.trial.number}, {self.searcher.monitor} {value:.4f} on validation")
        if self.optimism is not None:
            found.append(f"That is {self.optimism}")
        if self.estimate is not None:
            found.append(f"Nested: {self.estimate}")
        database = self.searcher.out / "study" / "optuna.db"
        if database.exists():
            found.append(f"To look at it: optuna-dashboard sqlite:///{database}")
        return found

    def _won(self) -> Entry:
        if self.winner is None:
            reasons = {entry.outcome.reason for entry in self.entries if entry.outcome is not None}
            raise ImgclsError(f"the study must have a trial that completed, got only failures: {sorted(reasons)[:3]}")
        return self.winner
