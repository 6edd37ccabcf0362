"""Ray Tune's searchers over our own files of trials.

A searcher of Ray Tune has a memory that no file holds in full. So each trial notes which others had ended when it was
proposed; a study that is opened again lets a new searcher go through the same proposals and results, and so comes to
the same next trial. No Ray is started for this: searchers are plain objects.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, final

import attrs

from imgcls.core.errors import ConfigError, MissingExtraError, RunError, missing_extra, nearest
from imgcls.core.options import rejected
from imgcls.core.randomness import derive_seed
from imgcls.search.base import Entry, Outcome, Plan, SearchBackend, Study, Trial
from imgcls.search.parameters import Choice, Fixed, Float, Int, Parameter
from imgcls.search.plain import canonical
from imgcls.search.space import Space

__all__ = ["Ray"]

#: Proposals for one trial; where all of them were tried before, another combination is taken.
_TRIES = 20

#: Where the searchers are that learn, what they call the seed, and the package that each needs.
_LEARNING = {
    "optuna": ("ray.tune.search.optuna", "OptunaSearch", "seed", "optuna"),
    "hyperopt": ("ray.tune.search.hyperopt", "HyperOptSearch", "random_state_seed", "hyperopt"),
}

_KNOWN = ("random", *_LEARNING)

#: What the Searcher gives itself.
_OURS = frozenset({"space", "metric", "mode", "points_to_evaluate", "evaluated_rewards"})


def _spec(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _is_searcher(_: Any, field: attrs.Attribute[Any], spec: Any) -> None:
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise rejected(field.name, "be a name, or a mapping with a 'name' and options", spec)
    if spec["name"] not in _KNOWN:
        rule = "be one of " + ", ".join(map(repr, _KNOWN))
        raise rejected(field.name, rule, spec["name"], nearest(spec["name"], _KNOWN))


@final
@attrs.frozen(kw_only=True)
class Ray(SearchBackend):
    """Propose by one of Ray Tune's searchers; Liaw et al. (2018), arXiv 1807.05118.

    All parameters are proposed, and those that are not active left out, since not every searcher knows conditions.
    The user's own configuration is told to `optuna` alone, the only one that takes results of others.

    Attributes:
        searcher: `"random"` (Tune's own generator of variants), `"optuna"` or `"hyperopt"`, with options of Tune's
            class: `{"name": "hyperopt", "n_initial_points": 10}`. `"hyperopt"` needs the package of that name.

    Raises:
        MissingExtraError: if Ray Tune or the package of the searcher is not installed.
        ConfigError: if a name or an option is wrong; from `open`, if there are several directions and the searcher
            knows one alone.
    """

    searcher: Mapping[str, Any] = attrs.field(default="optuna", converter=_spec, validator=_is_searcher)

    def __attrs_post_init__(self) -> None:
        wrong = _OURS & set(self.searcher)
        if wrong:
            raise rejected("searcher", "leave out what the search gives itself", sorted(wrong))
        self.new_searcher(Space.of({"x": [0, 1]}), ("maximize",), seed=0)

    def _study(self, plan: Plan) -> Study:
        if plan.trials is None and plan.space.size() is None:
            raise rejected("trials", "be a whole number of at least 1 in a continuous space", None)
        if len(plan.directions) > 1 and self.searcher["name"] == "hyperopt":
            raise rejected("searcher", "know several directions, as 'optuna' does", self.searcher["name"])
        return _RayStudy(plan=plan, backend=self)

    def new_searcher(self, space: Space, directions: tuple[str, ...], *, seed: int) -> Any:
        """Make a searcher that knows nothing.

        Args:
            space: Where it looks.
            directions: `maximize` or `minimize` for each value.
            seed: Its seed.

        Returns:
            A `Searcher` of Ray Tune.
        """
        name, domains = self.searcher["name"], _domains(space)
        options = {key: value for key, value in self.searcher.items() if key != "name"}
        if name == "random" and options:
            raise rejected("searcher", "have no options where it is 'random'", options)
        if name == "random" or not domains:
            return _Variants(domains, seed)
        module, kind, seeded, package = _LEARNING[name]
        made = getattr(_imported(module), kind)
        try:
            with _quiet():
                searcher = made(**{seeded: seed, **options})
                searcher.set_search_properties(*_goal(directions), domains)
        except (AssertionError, ImportError):
            raise _absent(package) from None
        except (TypeError, ValueError) as error:
            raise ConfigError(f"'searcher' must have options of Ray's {kind}, got {options}; {error}") from None
        return searcher


def _goal(directions: tuple[str, ...]) -> tuple[Any, Any]:
    names, modes = [f"value_{place}" for place in range(len(directions))], [one[:3] for one in directions]
    return (names, modes) if len(directions) > 1 else (names[0], modes[0])


def _absent(package: str) -> MissingExtraError:
    if package == "optuna":
        return missing_extra("optuna", "optuna")
    return MissingExtraError(f"package {package!r} must be installed, got none; pip install {package}")


def _imported(module: str) -> Any:
    try:
        with _quiet():
            return importlib.import_module(module)
    except ImportError:
        raise missing_extra("ray", "ray") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _domains(space: Space) -> dict[str, Any]:
    return {path: _domain(one) for path, one in space.items() if not isinstance(one, Fixed)}


# Of a choice and of steps the place is proposed.
def _domain(one: Parameter) -> Any:
    tune = _imported("ray.tune")
    if isinstance(one, Choice):
        return tune.choice(list(range(len(one.values))))
    if isinstance(one, Int):
        return tune.lograndint(one.low, one.high + 1) if one.log else tune.randint(0, _steps(one) + 1)
    assert isinstance(one, Float)
    return tune.loguniform(one.low, one.high) if one.log else tune.uniform(one.low, one.high)


def _steps(one: Int) -> int:
    return (one.high - one.low) // one.step


def _value(one: Parameter, proposed: Any) -> Any:
    if isinstance(one, Choice):
        return one.values[int(proposed)]
    if isinstance(one, Int):
        return int(proposed) if one.log else one.low + one.step * int(proposed)
    assert isinstance(one, Float)
    return min(max(float(proposed), one.low), one.high)


def _proposal(one: Parameter, value: Any) -> Any:
    if isinstance(one, Choice):
        return next(place for place, known in enumerate(one.values) if canonical(known) == canonical(value))
    return (value - one.low) // one.step if isinstance(one, Int) and not one.log else value


@final
class _Variants:
    """Tune's generator of variants, which is no searcher, asked as if it were one."""

    def __init__(self, domains: Mapping[str, Any], seed: int) -> None:
        self._domains, self._seed = dict(domains), seed

    def suggest(self, name: str) -> dict[str, Any]:
        make = _imported("ray.tune.search.variant_generator").generate_variants
        return dict(next(make(self._domains, random_state=derive_seed(self._seed, name) % 2**32))[1])

    def on_trial_complete(self, name: str, result: Any = None, error: bool = False) -> None:
        pass


@final
@attrs.define(kw_only=True, eq=False)
class _RayStudy(Study):
    backend: Ray
    searcher: Any = None
    heard: list[int] = attrs.field(factory=list)

    def _propose(self, number: int) -> Trial | None:
        with _quiet():
            if self.searcher is None:
                self._replay()
            ended = [entry.trial.number for entry in self.entries if _has_ended(entry)]
            return self._next(number, [one for one in ended if one not in self.heard])

    def _replay(self) -> None:
        plan = self.plan
        seed = derive_seed(plan.seed, "ray") % 2**31
        self.searcher = self.backend.new_searcher(plan.space, plan.directions, seed=seed)
        for entry in self.entries:
            if not self._is_own(entry.trial.number):
                again = self._next(entry.trial.number, entry.trial.notes["after"])
                if again is None or again.params != entry.trial.params:
                    raise RunError(
                        f"'folder' must hold trials that this version of Ray and {self.backend.searcher['name']} "
                        f"proposes, got trial {entry.trial.number} of another one in {str(plan.folder)!r}; install "
                        "the version that the study began with, or use a new folder"
                    )

    # A function of the trials before it, and of which of them had ended.
    def _next(self, number: int, after: list[int]) -> Trial | None:
        for ended in after:
            self._hear(self._entries[ended])
        earlier = {canonical(entry.trial.params): entry for entry in self.entries if entry.trial.number < number}
        notes = {"after": after}
        for attempt in range(_TRIES):
            name = f"{number}-{attempt}"
            proposed = self.searcher.suggest(name)
            if not isinstance(proposed, Mapping):  # the searcher waits, or has no more
                break
            params = self._params(proposed)
            known = earlier.get(canonical(params))
            if known is None:
                return Trial(number=number, params=params, notes={**notes, "name": name})
            self._complete(name, known if known.trial.number in self.heard else None)
        unused = self.plan.space.unused(set(earlier))
        return None if unused is None else Trial(number=number, params=unused, notes=notes)

    def _params(self, proposed: Mapping[str, Any]) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for path, one in self.plan.space.items():
            if self.plan.space.active(path, params):
                params[path] = one.value if isinstance(one, Fixed) else _value(one, proposed[path])
        return params

    def _hear(self, entry: Entry) -> None:
        self.heard.append(entry.trial.number)
        name = entry.trial.notes.get("name")
        if name is not None:
            self._complete(name, entry)
        elif self._is_own(entry.trial.number):
            self._tell_own(entry)

    def _complete(self, name: str, entry: Entry | None) -> None:
        values = () if entry is None or entry.outcome is None else entry.outcome.values
        if values and all(map(math.isfinite, values)):
            result = {f"value_{place}": value for place, value in enumerate(values)}
            self.searcher.on_trial_complete(name, result={**result, "training_iteration": 1})
        else:
            self.searcher.on_trial_complete(name, error=True)

    # A configuration outside of the space, or with less in it, tells a searcher nothing.
    def _tell_own(self, entry: Entry) -> None:
        space, params = self.plan.space, entry.trial.params
        free = {path: one for path, one in space.items() if not isinstance(one, Fixed)}
        values = () if entry.outcome is None else entry.outcome.values
        good = len(values) == 1 and math.isfinite(values[0])
        if not good or not all(path in params and one.holds(params[path]) for path, one in free.items()):
            return
        point = {path: _proposal(one, params[path]) for path, one in free.items()}
        with contextlib.suppress(AttributeError, NotImplementedError):
            self.searcher.add_evaluated_point(point, values[0])

    def _is_own(self, number: int) -> bool:
        return number == 0 and self.plan.first is not None

    def _stops(self, trial: Trial, *, step: int, value: float) -> bool:  # noqa: ARG002
        return False

    def _learn(self, trial: Trial, outcome: Outcome) -> None:
        pass


def _has_ended(entry: Entry) -> bool:
    return entry.outcome is not None
