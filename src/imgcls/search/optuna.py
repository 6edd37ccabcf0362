"""Optuna's samplers and pruners over our own files of trials.

What was asked and told stands in the files of the study alone; from these a study of Optuna is made in memory for each
proposal. So no trial is ever left running in a database, a kill at any moment loses nothing, and trial n is the same
with and without an interruption. Finished trials are written to `optuna.db` as well, for `optuna-dashboard`.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs

from imgcls.core.errors import ConfigError, missing_extra, nearest
from imgcls.core.options import optional, rejected
from imgcls.core.progress import warn
from imgcls.core.randomness import derive_seed
from imgcls.search.base import Entry, Outcome, Plan, SearchBackend, Study, Trial
from imgcls.search.parameters import Choice, Fixed, Float, Int, Parameter
from imgcls.search.plain import canonical
from imgcls.search.space import Space

__all__ = ["Optuna", "ped_anova"]

#: Proposals for one trial; where all of them were tried before, another combination is taken.
_TRIES = 20

#: Samplers whose proposals follow from the trials so far, with what they are given beside their options.
_SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "tpe": ("TPESampler", {"multivariate": True, "constant_liar": True}),
    "gp": ("GPSampler", {}),
    "nsga2": ("NSGAIISampler", {}),
    "nsga3": ("NSGAIIISampler", {}),
}

#: Pruners that need nothing but the values that trials reported.
_PRUNERS = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "threshold": "ThresholdPruner",
    "wilcoxon": "WilcoxonPruner",
}


def _spec(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _named(known: Mapping[str, Any]) -> Any:
    def check(_: Any, field: attrs.Attribute[Any], spec: Any) -> None:
        if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
            raise rejected(field.name, "be a name, or a mapping with a 'name' and options", spec)
        if spec["name"] not in known:
            remedy = nearest(spec["name"], known)
            raise rejected(field.name, "be one of " + ", ".join(map(repr, known)), spec["name"], remedy)

    return check


@final
@attrs.frozen(kw_only=True)
class Optuna(SearchBackend):
    """Propose by one of Optuna's samplers; Akiba et al. (2019), KDD.

    Attributes:
        sampler: `"tpe"` (Watanabe 2023; all parameters together, and trials that run count as bad ones), `"gp"`,
            `"nsga2"` or `"nsga3"`, with options of Optuna's class: `{"name": "tpe", "n_startup_trials": 20}`.
        pruner: `"median"`, `"percentile"`, `"threshold"` or `"wilcoxon"`, with options; None stops no trial. It hears
            of each epoch where there is one fold, else of each fold. (Optuna's halving is the backend `halving`.)

    Raises:
        MissingExtraError: if Optuna is not installed.
        ConfigError: if a name or an option is wrong; from `open`, if there is a pruner beside several directions.
    """

    sampler: Mapping[str, Any] = attrs.field(default="tpe", converter=_spec, validator=_named(_SAMPLERS))
    pruner: Mapping[str, Any] | None = attrs.field(default=None, converter=_spec, validator=optional(_named(_PRUNERS)))

    def __attrs_post_init__(self) -> None:
        self.new_sampler(0)
        self.new_pruner()

    def _study(self, plan: Plan) -> Study:
        if plan.trials is None and plan.space.size() is None:
            raise rejected("trials", "be a whole number of at least 1 in a continuous space", None)
        if len(plan.directions) > 1 and self.pruner is not None:
            raise rejected("pruner", "be None where there are several directions", self.pruner["name"], "leave it out")
        return _OptunaStudy(plan=plan, backend=self)

    def new_sampler(self, seed: int) -> Any:
        """Make the sampler of one trial.

        Args:
            seed: Its seed.

        Returns:
            Optuna's sampler.
        """
        kind, given = _SAMPLERS[self.sampler["name"]]
        return _made("sampler", getattr(_optuna().samplers, kind), {**given, **_options(self.sampler), "seed": seed})

    def new_pruner(self) -> Any:
        """Make the pruner.

        Returns:
            Optuna's pruner, or None.
        """
        if self.pruner is None:
            return None
        return _made("pruner", getattr(_optuna().pruners, _PRUNERS[self.pruner["name"]]), _options(self.pruner))


def _options(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "name"}


def _made(name: str, kind: Any, options: Mapping[str, Any]) -> Any:
    try:
        with _quiet():
            return kind(**options)
    except (TypeError, ValueError) as error:
        shown = {key: value for key, value in options.items() if key != "seed"}
        raise ConfigError(f"'{name}' must have options of Optuna's {kind.__name__}, got {shown}; {error}") from None


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise missing_extra("optuna", "optuna") from None
    return optuna


# Much of Optuna calls itself experimental, and every study announces itself.
@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging = _optuna().logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


@final
@attrs.define(kw_only=True, eq=False)
class _OptunaStudy(Study):
    backend: Optuna
    frozen: dict[int, tuple[Entry, Any]] = attrs.field(factory=dict)
    mirror: _Mirror = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.mirror = _Mirror(self.plan)
        with _quiet():
            self.mirror.add([self._as_frozen(entry) for entry in self.entries if _is_told(entry)])

    # A pure function of seed and entries.
    def _propose(self, number: int) -> Trial | None:
        used = {canonical(entry.trial.params) for entry in self.entries}
        for attempt in range(_TRIES):
            with _quiet():
                trial = self._sampled(number, derive_seed(self.plan.seed, "trial", number, attempt) % 2**32)
            if canonical(trial.params) not in used:
                return trial
        unused = self.plan.space.unused(used)
        return None if unused is None else Trial(number=number, params=unused)

    def _sampled(self, number: int, seed: int) -> Trial:
        study = self._study(self.backend.new_sampler(seed))
        asked = study.ask()
        params: dict[str, Any] = {}
        for path, one in self.plan.space.items():
            if self.plan.space.active(path, params):
                params[path] = _suggested(asked, path, one)
        notes = study.get_trials()[-1].system_attrs
        kept = {key: value for key, value in notes.items() if key != "fixed_params"}
        return Trial(number=number, params=params, notes=kept)

    def _study(self, sampler: Any = None) -> Any:
        study = _optuna().create_study(directions=list(self.plan.directions), sampler=sampler)
        for entry in self.entries:
            study.add_trial(self._as_frozen(entry))
        return study

    def _stops(self, trial: Trial, *, step: int, value: float) -> bool:  # noqa: ARG002
        pruner = self.backend.new_pruner()
        if pruner is None:
            return False
        with _quiet():
            study = self._study()
            found = next(one for one in study.get_trials() if one.user_attrs["number"] == trial.number)
            return bool(pruner.prune(study, found))

    def _learn(self, trial: Trial, outcome: Outcome) -> None:
        del outcome
        with _quiet():
            self.mirror.add([self._as_frozen(self.entries[trial.number])])

    def _as_frozen(self, entry: Entry) -> Any:
        number = entry.trial.number
        if number in self.frozen and self.frozen[number][0] == entry and _is_told(entry):
            return self.frozen[number][1]
        found = _frozen(entry, self.plan)
        self.frozen[number] = (entry, found)
        return found


def _is_told(entry: Entry) -> bool:
    return entry.outcome is not None


# What lies outside of the space, as the user's own configuration may, tells a sampler nothing.
def _frozen(entry: Entry, plan: Plan) -> Any:
    optuna, outcome = _optuna(), entry.outcome
    inside = {
        path: value
        for path, value in entry.trial.params.items()
        if path in plan.space and plan.space[path].holds(value) and not isinstance(plan.space[path], Fixed)
    }
    finite = outcome is not None and bool(outcome.values) and all(map(math.isfinite, outcome.values))
    states = {"complete": "COMPLETE", "pruned": "PRUNED"}
    name = "RUNNING" if outcome is None else states.get(outcome.state, "FAIL") if finite else "FAIL"
    state = optuna.trial.TrialState[name]
    complete = state == optuna.trial.TrialState.COMPLETE
    constraints = enumerate(outcome.constraints if outcome else ())
    return optuna.trial.create_trial(
        state=state,
        values=list(outcome.values) if outcome is not None and complete else None,
        params={path: _label(plan.space[path], value) for path, value in inside.items()},
        distributions={path: _distribution(plan.space[path]) for path in inside},
        user_attrs={"number": entry.trial.number, **({"reason": outcome.reason} if outcome else {})},
        system_attrs=entry.trial.notes,
        constraints={f"limit_{place}": value for place, value in constraints} or None,
        intermediate_values={step: value for step, value in entry.reports.items() if math.isfinite(value)},
    )


def _suggested(asked: Any, path: str, one: Parameter) -> Any:
    if isinstance(one, Fixed):
        return one.value
    if isinstance(one, Choice):
        labels = _labels(one)
        return one.values[labels.index(asked.suggest_categorical(path, labels))]
    if isinstance(one, Int):
        return asked.suggest_int(path, one.low, one.high, log=one.log, step=one.step)
    assert isinstance(one, Float)
    return asked.suggest_float(path, one.low, one.high, log=one.log)


def _distribution(one: Parameter) -> Any:
    kinds = _optuna().distributions
    if isinstance(one, Choice):
        return kinds.CategoricalDistribution(_labels(one))
    if isinstance(one, Int):
        return kinds.IntDistribution(one.low, one.high, log=one.log, step=one.step)
    assert isinstance(one, Float)
    return kinds.FloatDistribution(one.low, one.high, log=one.log)


def _label(one: Parameter, value: Any) -> Any:
    if not isinstance(one, Choice):
        return value
    place = next(place for place, known in enumerate(one.values) if canonical(known) == canonical(value))
    return _labels(one)[place]


# Optuna takes words for choices; those of values that are none are their JSON.
def _labels(one: Choice) -> tuple[str, ...]:
    words = tuple(value if isinstance(value, str) else canonical(value) for value in one.values)
    return words if len(set(words)) == len(words) else tuple(map(canonical, one.values))


def ped_anova(entries: Sequence[Entry], space: Space, *, direction: str) -> dict[str, float]:
    """Ask Optuna what sets the best trials apart.

    Args:
        entries: Trials that have values.
        space: Where they come from.
        direction: `maximize` or `minimize`.

    Returns:
        The share of each parameter; nothing where Optuna cannot tell.
    """
    optuna, plan = _optuna(), Plan(space=space, directions=direction, folder=".", seed=0, trials=None)
    with _quiet():
        study = optuna.create_study(direction=direction)
        for entry in entries:
            first = (
                attrs.evolve(entry, outcome=Outcome("complete", values=entry.outcome.values[0]))
                if entry.outcome
                else entry
            )
            study.add_trial(_frozen(first, plan))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        try:
            found: dict[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except (RuntimeError, ValueError):  # too few trials, or all alike
            return {}
    return found


@final
class _Mirror:
    """The finished trials in a database, for people to look at."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._study: Any = None
        self._known: set[int] = set()
        self._given_up = False

    def add(self, trials: list[Any]) -> None:
        """Add those that are new; a database that cannot be written is left behind, and the search goes on."""
        try:
            self._add(trials)
        except Exception as error:  # of SQLite, SQLAlchemy or Optuna, whose errors have no common root
            if not self._given_up:
                warn(f"optuna.db is left as it is, since it cannot be written: {type(error).__name__}: {error}")
            self._given_up = True

    def _add(self, trials: list[Any]) -> None:
        if self._study is None and trials:
            self._study = self._opened(self._plan.folder / "optuna.db")
        new = [trial for trial in trials if trial.user_attrs["number"] not in self._known and trial.state.is_finished()]
        for trial in new:
            self._study.add_trial(trial)
            self._known.add(trial.user_attrs["number"])

    # No connection stays open, so that a kill leaves no lock.
    def _opened(self, path: Path) -> Any:
        from sqlalchemy.pool import NullPool

        optuna = _optuna()
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"poolclass": NullPool})
        study = optuna.create_study(
            storage=storage, study_name="search", directions=list(self._plan.directions), load_if_exists=True
        )
        self._known = {trial.user_attrs["number"] for trial in study.get_trials(deepcopy=False)}
        return study
