"""Successive halving: many trials begin, the better ones go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import attrs

from imgcls.core.options import count, number, optional, rejected
from imgcls.search.base import Entry, Outcome, Plan, SearchBackend, Study, Trial
from imgcls.search.random import fresh

__all__ = ["Halving"]


@final
@attrs.frozen(kw_only=True)
class Halving(SearchBackend):
    """Give all trials a few epochs, the best of them more, and so on; Jamieson and Talwalkar (2016), AISTATS.

    Trials are drawn by chance. All have the first budget; when the last one has used it, the best third goes on from
    where it stopped to three times as many epochs, and so on up to whole trainings. No epoch is trained twice, and a
    trial that reaches the end is the training that it would have been without a pause: schedules run over all its
    epochs from the beginning. So a trial is judged in the middle of its schedule, where rates are still high; with a
    schedule that falls late, such as one-cycle, give the first budget more epochs than with a constant rate.

    Attributes:
        factor: How many trials there are for each one that goes on, and how many times as many epochs it then has.
        min_epochs: The epochs of the first budget; None takes those of three rounds beside the last.

    Raises:
        ConfigError: from `open`, if nobody says how many trials there are or how many epochs a training has, or if
            the first budget would be a whole training.
    """

    factor: float = attrs.field(default=3, validator=number(1, above=True))
    min_epochs: int | None = attrs.field(default=None, validator=optional(count()))

    def _study(self, plan: Plan) -> Study:
        if plan.trials is None:
            raise rejected("trials", "be a whole number of at least 1 for 'halving'", None)
        if len(plan.directions) > 1:
            raise rejected("directions", "be one for 'halving', which ranks trials", list(plan.directions))
        if plan.epochs is None:
            raise rejected("epochs", "be given for 'halving', which divides them", None)
        budgets = self._budgets(plan.epochs)
        return _HalvingStudy(plan=plan, first_budget=budgets[0], budgets=budgets, factor=self.factor)

    def _budgets(self, epochs: int) -> tuple[int, ...]:
        least = self.min_epochs or max(1, math.ceil(epochs / self.factor**3))
        if least >= epochs:
            raise rejected("min_epochs", f"be below the {epochs} epochs of a training", least)
        rounds = math.floor(math.log(epochs / least, self.factor) + 1e-9)
        found = [max(least, math.floor(epochs / self.factor**rest)) for rest in range(rounds, 0, -1)]
        return tuple(dict.fromkeys(budget for budget in found if budget < epochs))


@final
@attrs.define(kw_only=True, eq=False)
class _HalvingStudy(Study):
    budgets: Sequence[int]
    factor: float

    def _propose(self, number: int) -> Trial | None:
        if self.plan.trials is not None and number < self.plan.trials:
            params = fresh(self, number)
            if params is not None:
                return Trial(number=number, params=params, budget=self.budgets[0])
        return self._promoted()

    # Everything follows from the entries, so that it goes on after a kill as if nothing had happened.
    def _promoted(self) -> Trial | None:
        members: Sequence[Entry] = self.entries
        for budget, larger in zip(self.budgets, [*self.budgets[1:], None], strict=True):
            if any(_runs(entry, budget) for entry in members):
                return None
            members = self._survivors(members, budget)
            waiting = [entry for entry in members if _paused_at(entry, budget)]
            if waiting:
                return self._with_more(waiting[0], budget, larger)
        return None

    # What a trial had reached is noted, since its outcome will be another one.
    def _with_more(self, entry: Entry, budget: int, larger: int | None) -> Trial:
        reached = {**entry.trial.notes.get("reached", {}), str(budget): _reached(entry, budget)}
        return attrs.evolve(entry.trial, budget=larger, notes={"reached": reached})

    # The best of those that used a budget; the others get no more.
    def _survivors(self, members: Sequence[Entry], budget: int) -> list[Entry]:
        ranked = sorted(members, key=lambda entry: (-self._score(entry, budget), entry.trial.number))
        chosen = [entry.trial.number for entry in ranked[: max(1, math.floor(len(members) / self.factor + 1e-9))]]
        for entry in members:
            if entry.trial.number not in chosen and _paused_at(entry, budget):
                self.settle(entry.trial.number, reason=f"others were better after {budget} epochs")
        return [entry for entry in self.entries if entry.trial.number in chosen]

    def _score(self, entry: Entry, budget: int) -> float:
        value = _reached(entry, budget)
        sign = 1.0 if self.plan.directions[0] == "maximize" else -1.0
        return -math.inf if math.isnan(value) else sign * value

    def _stops(self, trial: Trial, *, step: int, value: float) -> bool:  # noqa: ARG002
        return False

    def _learn(self, trial: Trial, outcome: Outcome) -> None:
        pass


# Whether it may still come to a value at the budget.
def _runs(entry: Entry, budget: int) -> bool:
    return entry.outcome is None and str(budget) not in entry.trial.notes.get("reached", {})


def _paused_at(entry: Entry, budget: int) -> bool:
    return entry.outcome is not None and entry.outcome.state == "paused" and entry.trial.budget == budget


# One that ended before its budget was used up keeps its value.
def _reached(entry: Entry, budget: int) -> float:
    reached: dict[str, float] = entry.trial.notes.get("reached", {})
    if str(budget) in reached:
        return reached[str(budget)]
    return entry.outcome.values[0] if entry.outcome is not None and entry.outcome.valued else math.nan
