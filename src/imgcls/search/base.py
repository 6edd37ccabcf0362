"""The interface of search backends: a backend opens a study, the study proposes trials."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs
import numpy as np

from imgcls.core.dumping import spec_of
from imgcls.core.errors import ConfigError, PluginContractError
from imgcls.core.options import count, optional, rejected, texts
from imgcls.core.options import seed as seed_rule
from imgcls.core.plugins import Plugin, Registry
from imgcls.search.ledger import agree, load, save
from imgcls.search.plain import plain_params
from imgcls.search.space import Space
from imgcls.search.trials import DIRECTIONS, Entry, Outcome, Trial

__all__ = ["Entry", "Outcome", "Plan", "SearchBackend", "Study", "Trial", "search_backends"]


def _space(given: Any) -> Space:
    return Space.of(given)


def _directions(given: Any) -> Any:
    return (given,) if isinstance(given, str) else texts(given)


def _known_directions(_: Any, field: attrs.Attribute[Any], directions: Any) -> None:
    if not isinstance(directions, tuple) or not directions or any(one not in DIRECTIONS for one in directions):
        raise rejected(field.name, "be 'maximize' or 'minimize', or a list of these", directions)


def _baseline(plan: Plan, field: attrs.Attribute[Any], first: Any) -> None:
    if first is None:
        return
    if not isinstance(first, Mapping):
        raise rejected(field.name, "map paths of the space to values", first)
    plan.space.check_paths(first)


@final
@attrs.frozen(kw_only=True)
class Plan:
    """What a study is to do.

    Attributes:
        space: Where it looks.
        directions: `maximize` or `minimize` for each value of an outcome.
        folder: Where it keeps its files.
        seed: Where its chance comes from.
        trials: How many trials it has in all, finished ones included; None goes on until
            the space is exhausted.
        first: The parameters of trial 0, or None.
        epochs: The epochs of a whole training, for backends that give budgets; None where nobody knows.

    Raises:
        ConfigError: if one of these is wrong.
    """

    space: Space = attrs.field(converter=_space)
    directions: tuple[str, ...] = attrs.field(converter=_directions, validator=_known_directions)
    folder: Path = attrs.field(converter=Path)
    seed: int = attrs.field(validator=seed_rule())
    trials: int | None = attrs.field(validator=optional(count()))
    first: dict[str, Any] | None = attrs.field(default=None, converter=plain_params, validator=_baseline)
    epochs: int | None = attrs.field(default=None, validator=optional(count()))


@attrs.define(kw_only=True, eq=False)
class Study(abc.ABC):
    """A search under way: ask for a trial, run it, tell how it ended, until there is none.

    What was asked and told is on disk before the methods return. A study that is opened
    again asks its unfinished trials again, with the same numbers and parameters. One
    process at a time works on a study; it may ask several trials before it tells them.
    Where `ask` gives none, there may be more when those that run are told.

    A backend writes the hooks `_propose`, `_stops` and `_learn`.

    Attributes:
        plan: What the study is to do.
        first_budget: The epochs that trial 0 may use if it is the user's own; None for all.
    """

    plan: Plan
    first_budget: int | None = None
    _entries: dict[int, Entry] = attrs.field(
        init=False, default=attrs.Factory(lambda study: load(study.plan.folder), takes_self=True)
    )
    _asked: set[int] = attrs.field(init=False, factory=set)

    @property
    @final
    def entries(self) -> tuple[Entry, ...]:
        """All trials so far, by number."""
        return tuple(self._entries[number] for number in sorted(self._entries))

    @final
    def ask(self) -> Trial | None:
        """Take the next trial: first those that an interrupted run left unfinished.

        Returns:
            The trial, or None when the planned number is reached or the space is exhausted, at least until those
            that run are told.

        Raises:
            PluginContractError: if the backend proposes what is no trial of the space.
        """
        waiting = (entry.trial for entry in self.entries if entry.outcome is None and self._is_waiting(entry.trial))
        trial = next(waiting, None) or self._new()
        if trial is None:
            return None
        self._asked.add(trial.number)
        return attrs.evolve(trial)  # a copy, so that nobody changes what was asked

    @final
    def report(self, trial: Trial, *, step: int, value: float) -> bool:
        """Say how far a running trial is.

        Args:
            trial: The trial.
            step: The epoch or fold that is done, from 0.
            value: What it reached, in the first direction of the study.

        Returns:
            Whether the trial should stop.

        Raises:
            ConfigError: if the trial is unknown or finished, or step or value are no numbers.
        """
        self._check_running(trial)
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise rejected("step", "be a whole number of at least 0", step)
        if not isinstance(value, int | float | np.number):
            raise rejected("value", "be a number", value)
        self._entries[trial.number].reports[step] = float(value)
        return bool(self._stops(trial, step=step, value=float(value)))

    @final
    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Say how a trial ended.

        Args:
            trial: The trial.
            outcome: How it ended.

        Raises:
            ConfigError: if the trial is unknown or was told before, or the outcome has
                not one value per direction.
        """
        self._check_running(trial)
        if not isinstance(outcome, Outcome):
            raise rejected("outcome", "be an Outcome", outcome)
        if outcome.state == "paused" and trial.budget is None:
            raise rejected("outcome", "be another one where the trial has no budget", outcome)
        if outcome.valued and len(outcome.values) != len(self.plan.directions):
            rule = f"have one value for each direction {self.plan.directions}"
            raise rejected("outcome", rule, outcome.values)
        self._keep(attrs.evolve(self._entries[trial.number], outcome=outcome))
        self._learn(trial, outcome)

    @final
    def settle(self, number: int, *, reason: str) -> None:
        """Say that a paused trial gets no more budget.

        Args:
            number: The trial.
            reason: Why.
        """
        entry = self._entries[number]
        assert entry.outcome is not None
        self._keep(attrs.evolve(entry, outcome=attrs.evolve(entry.outcome, state="pruned", reason=reason)))

    @abc.abstractmethod
    def _propose(self, number: int) -> Trial | None:
        """Make a new trial; its number is given, None says that the space is exhausted.

        Where trials are paused, it may also give one of them more budget, under its own number, and is asked to
        when all new ones are made.
        """

    @abc.abstractmethod
    def _stops(self, trial: Trial, *, step: int, value: float) -> bool:
        """Decide whether a running trial should stop."""

    @abc.abstractmethod
    def _learn(self, trial: Trial, outcome: Outcome) -> None:
        """Take note of an outcome; `entries` has it already."""

    def _new(self) -> Trial | None:
        number = next(number for number in itertools.count() if number not in self._entries)
        if not self._within(number) and not any(map(_is_paused, self._entries.values())):
            return None
        if number == 0 and self.plan.first is not None:
            trial: Trial | None = Trial(number=0, params=self.plan.first, budget=self.first_budget)
        else:
            trial = self._checked(self._propose(number), number)
        if trial is not None:
            before = self._entries.get(trial.number)
            self._keep(Entry(trial=trial, reports={} if before is None else before.reports))
        return trial

    def _is_waiting(self, trial: Trial) -> bool:
        return trial.number not in self._asked and self._within(trial.number)

    def _within(self, number: int) -> bool:
        return self.plan.trials is None or number < self.plan.trials

    def _checked(self, trial: Trial | None, number: int) -> Trial | None:
        if trial is None:
            return None
        owner = type(self).__name__
        if isinstance(trial, Trial) and self._goes_on(trial):
            return trial
        if not isinstance(trial, Trial) or trial.number != number or not self._within(number):
            raise PluginContractError(f"{owner} must propose a Trial with the number {number}, got {trial!r}")
        try:
            self.plan.space.check(trial.params)
        except ConfigError as error:
            raise PluginContractError(f"{owner} must propose parameters inside the space; {error}") from error
        return trial

    def _goes_on(self, trial: Trial) -> bool:
        entry = self._entries.get(trial.number)
        if entry is None or not _is_paused(entry):
            return False
        before = entry.trial.budget or 0
        return trial.params == entry.trial.params and (trial.budget is None or trial.budget > before)

    def _check_running(self, trial: Trial) -> None:
        entry = self._entries.get(trial.number) if isinstance(trial, Trial) else None
        if entry is None or entry.trial != trial:
            raise rejected("trial", "be one that this study asked", trial)
        if entry.outcome is not None:
            raise rejected("trial", "be told once", trial.number, f"it is {entry.outcome.state} already")

    def _keep(self, entry: Entry) -> None:
        save(self.plan.folder, entry)
        self._entries[entry.trial.number] = entry


def _is_paused(entry: Entry) -> bool:
    return entry.outcome is not None and entry.outcome.state == "paused"


class SearchBackend(Plugin):
    """A way to choose the next trial; its options are its fields.

    A plugin writes the hook `_study`.
    """

    @final
    def open(
        self,
        space: Space | Mapping[str, Any],
        *,
        directions: str | Sequence[str],
        folder: Path | str,
        seed: int,
        trials: int | None,
        first: Mapping[str, Any] | None = None,
        epochs: int | None = None,
    ) -> Study:
        """Begin a study, or continue the one that the folder holds.

        Args:
            space: Where to look.
            directions: `maximize` or `minimize`, as the metric has it; one for each value
                that outcomes will have.
            folder: Where the study keeps its files.
            seed: Where its chance comes from, 0 or more.
            trials: How many trials the study has in all, those of earlier runs included;
                None goes on until the space is exhausted. It may change between runs.
            first: The parameters of trial 0, the user's own configuration. Its values may
                lie outside the space, and paths may be left out.
            epochs: The epochs of a whole training, for backends that give budgets; the same in every run.

        Returns:
            The study.

        Raises:
            ConfigError: if an argument is wrong, or the folder holds a study that differs
                in space, directions, seed, first trial or backend.
            PluginContractError: if the plugin gives no study.
        """
        plan = Plan(
            space=space,
            directions=directions,
            folder=folder,
            seed=seed,
            trials=trials,
            first=first,
            epochs=epochs,
        )
        agree(plan.folder, self._facts(plan))
        study = self._study(plan)
        if not isinstance(study, Study) or study.plan is not plan:
            raise PluginContractError(f"{type(self).__name__} must give a Study of its plan, got {study!r}")
        return study

    @abc.abstractmethod
    def _study(self, plan: Plan) -> Study:
        """Make the study; its files are read when it is made."""

    def _facts(self, plan: Plan) -> dict[str, Any]:
        return {
            "backend": spec_of(self),
            "directions": list(plan.directions),
            "seed": plan.seed,
            "first": plan.first,
            "space": plan.space.to_dict(),
            "space_hash": plan.space.hash,
        }


#: The search backends that the installed distributions declare.
search_backends: Registry[SearchBackend] = Registry("imgcls.search_backends", SearchBackend)
