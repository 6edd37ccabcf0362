import itertools
import json
import math
import tempfile
from pathlib import Path
from typing import Any, final

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from imgcls.core.errors import ConfigError, PluginContractError, RunError
from imgcls.search.base import Entry, Outcome, Plan, SearchBackend, Study, Trial, search_backends
from imgcls.search.grid import Grid
from imgcls.search.plain import canonical
from imgcls.search.random import Random
from imgcls.search.sobol import Sobol
from imgcls.search.space import Choice, Float, Int, Space

BACKENDS = [Grid(points=2), Random(), Sobol()]
SPACE = Space.of(
    {
        "optimizer": ["adamw", "sgd"],
        "optimizer.momentum": Float(0.5, 0.99, when={"optimizer": "sgd"}),
        "lr": Float(1e-5, 1e-2, log=True),
        "epochs": Int(2, 8, step=2),
    }
)
CUBE = Space.of({"a": [1, 2, 3], "b": ["x", "y", "z"], "c": [0.1, 0.2, 0.3]})


def opened(backend: SearchBackend, folder: Path, space: Space = SPACE, **options: Any) -> Study:
    return backend.open(space, **{"directions": "maximize", "folder": folder, "seed": 7, "trials": 8, **options})


def outcome_of(trial: Trial) -> Outcome:
    value = {0: math.nan, 1: math.inf, 2: 1 / 3}.get(trial.number % 5, trial.number * 0.1)
    return Outcome("failed", reason="out of memory") if trial.number % 5 == 3 else Outcome("complete", values=value)


def run(study: Study, *, steps: int | None = None) -> tuple[Entry, ...]:
    """Ask and tell in turn; an odd number of steps ends with a trial asked and not told."""
    for step in itertools.count() if steps is None else range(0, steps, 2):
        trial = study.ask()
        if trial is None:
            break
        if steps is None or step + 1 < steps:
            study.tell(trial, outcome_of(trial))
    return study.entries


def readable(entries: tuple[Entry, ...]) -> list[str]:
    return [repr(entry) for entry in entries]  # NaN equals NaN here


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("first", [None, {"optimizer": "adamw", "lr": 0.5}])
def test_a_resumed_study_equals_an_uninterrupted_one_at_every_cut(
    backend: SearchBackend, first: dict[str, Any] | None, tmp_path: Path
) -> None:
    whole = run(opened(backend, tmp_path / "whole", first=first))
    assert len(whole) == 8
    for steps in range(17):
        folder = tmp_path / f"cut_{steps}"
        run(opened(backend, folder, first=first), steps=steps)
        assert readable(run(opened(backend, folder, first=first))) == readable(whole)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**40), st.lists(st.integers(1, 4), max_size=4), st.sampled_from(BACKENDS))
def test_any_series_of_interruptions_changes_nothing(seed: int, cuts: list[int], backend: SearchBackend) -> None:
    with tempfile.TemporaryDirectory() as name:
        whole = run(opened(backend, Path(name) / "whole", seed=seed, trials=6))
        for steps in cuts:
            run(opened(backend, Path(name) / "cut", seed=seed, trials=6), steps=steps)
        assert readable(run(opened(backend, Path(name) / "cut", seed=seed, trials=6))) == readable(whole)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**40))
def test_the_same_seed_gives_the_same_trials_inside_the_space(seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        one, other = (run(opened(Random(), Path(name) / folder, seed=seed, trials=4)) for folder in "ab")
    assert readable(one) == readable(other)
    for entry in one:
        SPACE.check(entry.trial.params)


def test_another_seed_gives_other_trials(tmp_path: Path) -> None:
    one, other = (run(opened(Random(), tmp_path / str(seed), seed=seed)) for seed in (1, 2))
    assert not {canonical(entry.trial.params) for entry in one} & {canonical(entry.trial.params) for entry in other}


def test_trial_n_does_not_depend_on_the_outcomes_before_it(tmp_path: Path) -> None:
    told = run(opened(Random(), tmp_path / "told"))
    study = opened(Random(), tmp_path / "asked")
    asked = [study.ask() for _ in range(8)]
    assert asked == [entry.trial for entry in told]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(3))
def test_27_combinations_give_27_distinct_trials_and_then_none(
    backend: SearchBackend, seed: int, tmp_path: Path
) -> None:
    study = opened(backend, tmp_path, CUBE, trials=None, seed=seed)
    entries = run(study)
    assert [entry.trial.number for entry in entries] == list(range(27))
    assert {canonical(entry.trial.params) for entry in entries} == {canonical(params) for params in CUBE.grid()}
    assert study.ask() is None


def test_the_grid_goes_through_its_combinations_in_order(tmp_path: Path) -> None:
    entries = run(opened(Grid(), tmp_path, CUBE, trials=10))
    assert [entry.trial.params for entry in entries] == list(itertools.islice(CUBE.grid(), 10))


@pytest.mark.parametrize("backend", BACKENDS)
def test_own_configuration_is_trial_0_and_is_not_tried_again(backend: SearchBackend, tmp_path: Path) -> None:
    own = {"a": 2, "b": "y", "c": 0.2}
    entries = run(opened(backend, tmp_path / "inside", CUBE, trials=None, first=own))
    assert entries[0].trial.params == own
    assert len({canonical(entry.trial.params) for entry in entries}) == len(entries) == 27
    outside = run(opened(backend, tmp_path / "outside", CUBE, trials=None, first={"a": 99}))
    assert outside[0].trial.params == {"a": 99}
    assert len(outside) == 28


def test_inactive_parameters_do_not_make_more_trials(tmp_path: Path) -> None:
    space = Space.of({"optimizer": ["adamw", "sgd"], "momentum": Choice(0.5, 0.9, when={"optimizer": "sgd"})})
    for backend in BACKENDS:
        assert len(run(opened(backend, tmp_path / type(backend).__name__, space, trials=None))) == 3


def test_a_mixed_space_repeats_no_trial(tmp_path: Path) -> None:
    space = Space.of({"optimizer": ["adamw", "sgd"], "momentum": Float(0, 1, when={"optimizer": "sgd"})})
    entries = run(opened(Random(), tmp_path, space, trials=20))
    assert len({canonical(entry.trial.params) for entry in entries}) == 20


def test_several_trials_can_run_side_by_side(tmp_path: Path) -> None:
    study = opened(Random(), tmp_path, trials=3)
    one, two = study.ask(), study.ask()
    assert one is not None
    assert two is not None
    study.tell(two, Outcome("complete", values=0.5))
    study.tell(one, Outcome("failed", reason="killed"))
    assert [entry.outcome.state for entry in study.entries if entry.outcome] == ["failed", "complete"]


def test_the_total_can_grow_and_failed_trials_count(tmp_path: Path) -> None:
    assert len(run(opened(Random(), tmp_path, trials=4))) == 4
    assert len(run(opened(Random(), tmp_path, trials=4))) == 4
    assert readable(run(opened(Random(), tmp_path))) == readable(run(opened(Random(), tmp_path / "at-once")))


def test_values_return_from_disk_as_they_were(tmp_path: Path) -> None:
    run(opened(Random(), tmp_path))
    outcomes = [entry.outcome for entry in opened(Random(), tmp_path).entries]
    assert [repr(one.values) for one in outcomes[:4] if one] == ["(nan,)", "(inf,)", f"({1 / 3!r},)", "()"]
    assert outcomes[3] == Outcome("failed", reason="out of memory")


def test_a_leftover_of_a_killed_write_is_ignored(tmp_path: Path) -> None:
    run(opened(Random(), tmp_path), steps=5)
    (tmp_path / "trials" / ".000003.json.tmp-1").write_text('{"number": 3, "par')
    assert len(run(opened(Random(), tmp_path))) == 8


def test_a_lost_trial_is_made_again(tmp_path: Path) -> None:
    whole = run(opened(Random(), tmp_path))
    (tmp_path / "trials" / "000003.json").unlink()
    assert readable(run(opened(Random(), tmp_path))) == readable(whole)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"number": 1, "params": {}, "budget": null, "outcome": 3, "reports": {}}']
)
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    run(opened(Random(), tmp_path))
    (tmp_path / "trials" / "000001.json").write_text(text)
    with pytest.raises(RunError, match=r"000001\.json'; it is damaged"):
        opened(Random(), tmp_path)


@pytest.mark.parametrize("text", [None, "[]", "{}"])
def test_trials_without_their_study_are_refused(text: str | None, tmp_path: Path) -> None:
    run(opened(Random(), tmp_path))
    (tmp_path / "study.json").unlink()
    if text is not None:
        (tmp_path / "study.json").write_text(text)
    with pytest.raises(RunError, match=r"study\.json'"):
        opened(Random(), tmp_path)


def with_change(**changes: Any) -> Space:
    plain = {**SPACE.to_dict(), **changes}
    return Space.of({path: spec for path, spec in plain.items() if spec is not None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 8}, r"'seed' must stay 7 as in the study of '.*', got 8; change it back or use a new folder"),
        ({"directions": "minimize"}, r"'directions' must stay \['maximize'\] .*, got \['minimize'\]"),
        ({"first": {"lr": 0.5}}, r"'first' must stay None .*, got \{'lr': 0\.5\}"),
        ({"backend": Grid()}, r"(?i)'backend' must stay .*random.* got .*grid.*points"),
        ({"space": with_change(lr=Float(1e-5, 0.1, log=True))}, r"'space\.lr' must stay .*0\.01.* got .*0\.1\b"),
        ({"space": with_change(epochs=[2, 4])}, r"'space\.epochs' must stay \{.int.:\[2,8\].* got \{.choice.:"),
        ({"space": with_change(epochs=None)}, r"'space\.epochs' must stay .* got absent"),
        ({"space": with_change(wd=0.1)}, r"'space\.wd' must stay absent as in .*, got \{\"fixed\":0\.1\}"),
        ({"space": Space.of(dict(reversed(SPACE.to_dict().items())))}, r"'space' must stay in the order 'optimizer'"),
    ],
)
def test_a_change_is_refused_by_name(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    run(opened(Random(), tmp_path), steps=1)
    with pytest.raises(ConfigError, match=message):
        opened(**{"backend": Random(), "folder": tmp_path, **options})


def test_before_the_first_trial_everything_may_change(tmp_path: Path) -> None:
    opened(Random(), tmp_path)
    assert len(run(opened(Grid(), tmp_path, CUBE, seed=8, trials=2))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": "max"}, r"'directions' must be 'maximize' or 'minimize', or a list of these, got \('max',\)"),
        ({"directions": []}, r"'directions' must be"),
        ({"seed": -1}, r"'seed' must be a whole number of at least 0, got -1"),
        ({"trials": 0}, r"'trials' must be a whole number of at least 1, got 0"),
        ({"trials": None}, r"'trials' must be a whole number of at least 1 in a continuous space, got None"),
        ({"first": {"learning_rate": 1}}, r"'params\.learning_rate' must name a parameter of the space"),
        ({"first": [1]}, r"'first' must map paths of the space to values, got \[1\]"),
    ],
)
def test_a_wrong_argument_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(Random(), tmp_path, **options)


def test_a_grid_needs_at_least_two_points() -> None:
    with pytest.raises(ConfigError, match=r"'points' must be a whole number of at least 2, got 1"):
        Grid(points=1)


def test_a_trial_is_told_once_and_must_be_known(tmp_path: Path) -> None:
    study = opened(Random(), tmp_path)
    trial = study.ask()
    assert trial is not None
    complete = Outcome("complete", values=0.5)
    with pytest.raises(ConfigError, match=r"'trial' must be one that this study asked"):
        study.tell(Trial(number=5, params={}), complete)
    with pytest.raises(ConfigError, match=r"'trial' must be one that this study asked"):
        study.tell(attrs.evolve(trial, params={**trial.params, "lr": 0.001}), complete)
    with pytest.raises(ConfigError, match=r"'outcome' must have one value for each direction .*, got \(1\.0, 2\.0\)"):
        study.tell(trial, Outcome("complete", values=(1, 2)))
    study.tell(trial, complete)
    with pytest.raises(ConfigError, match=r"'trial' must be told once, got 0; it is complete already"):
        study.tell(trial, complete)


def test_changing_an_asked_trial_does_not_change_the_study(tmp_path: Path) -> None:
    study = opened(Random(), tmp_path)
    trial = study.ask()
    assert trial is not None
    trial.params["lr"] = 99
    SPACE.check(study.entries[0].trial.params)


@pytest.mark.parametrize("backend", BACKENDS)
def test_built_in_backends_never_stop_a_trial(backend: SearchBackend, tmp_path: Path) -> None:
    study = opened(backend, tmp_path)
    trial = study.ask()
    assert trial is not None
    assert not any(study.report(trial, step=step, value=math.nan) for step in range(3))
    with pytest.raises(ConfigError, match=r"'step' must be a whole number of at least 0, got -1"):
        study.report(trial, step=-1, value=0.5)
    with pytest.raises(ConfigError, match=r"'value' must be a number, got '0\.5'"):
        study.report(trial, step=1, value="0.5")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Outcome("lost", values=1), r"'state' must be one of 'complete', 'pruned', .*, got 'lost'"),
        (lambda: Outcome("pruned"), r"'values' must be a number or numbers where the state is 'pruned', got \(\)"),
        (lambda: Outcome("complete"), r"'values' must be a number or numbers where the state is 'complete', got \(\)"),
        (lambda: Outcome("complete", values="0.5"), r"'values' must be a number or numbers"),
        (lambda: Outcome("failed", values=0.5), r"'values' must be left out where the state is 'failed', got"),
        (lambda: Trial(number=-1, params={}), r"'number' must be a whole number of at least 0"),
        (lambda: Trial(number=0, params={"a": len}), r"'params' must hold plain values"),
        (lambda: Trial(number=0, params={}, budget=0), r"'budget' must be a whole number of at least 1, got 0"),
    ],
)
def test_wrong_trials_and_outcomes_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@final
@attrs.define(kw_only=True, eq=False)
class Scripted(Study):
    proposal: Any
    learned: list[int] = attrs.field(factory=list)

    def _propose(self, number: int) -> Any:
        return self.proposal

    def _stops(self, trial: Trial, *, step: int, value: float) -> bool:
        return value < 0.5

    def _learn(self, trial: Trial, outcome: Outcome) -> None:
        self.learned.append(trial.number)


@final
@attrs.frozen(kw_only=True)
class Toy(SearchBackend):
    proposal: Any = None
    study: bool = True

    def _study(self, plan: Plan) -> Any:
        return Scripted(plan=plan, proposal=self.proposal) if self.study else "no study"


def test_a_backend_of_somebody_else_can_stop_trials_and_learns_of_outcomes(tmp_path: Path) -> None:
    study = opened(Toy(proposal=Trial(number=0, params={"a": 1, "b": "x", "c": 0.1}, budget=2)), tmp_path, CUBE)
    trial = study.ask()
    assert trial is not None
    assert trial.budget == 2
    assert (study.report(trial, step=0, value=0.9), study.report(trial, step=1, value=0.1)) == (False, True)
    study.tell(trial, Outcome("complete", values=0.1))
    assert isinstance(study, Scripted)
    assert study.learned == [0]
    assert opened(Toy(proposal=study.proposal), tmp_path, CUBE).entries[0].trial.budget == 2


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (Toy(proposal={"a": 1}), r"Scripted must propose a Trial with the number 0, got \{'a': 1\}"),
        (Toy(proposal=Trial(number=4, params={})), r"Scripted must propose a Trial with the number 0"),
        (Toy(proposal=Trial(number=0, params={"a": 9})), r"propose parameters inside the space; 'params\.a' must"),
        (Toy(study=False), r"Toy must give a Study of its plan, got 'no study'"),
    ],
)
def test_a_backend_that_breaks_its_contract_is_named(backend: Toy, message: str, tmp_path: Path) -> None:
    with pytest.raises(PluginContractError, match=message):
        opened(backend, tmp_path, CUBE).ask()


def test_the_files_of_a_study_can_be_read_by_people(tmp_path: Path) -> None:
    run(opened(Random(), tmp_path, trials=1))
    study = json.loads((tmp_path / "study.json").read_text())
    assert Space.from_dict(study["space"]) == SPACE
    assert (study["space_hash"], study["directions"], study["seed"]) == (SPACE.hash, ["maximize"], 7)
    assert [path.name for path in (tmp_path / "trials").iterdir()] == ["000000.json"]


def test_the_registry_makes_the_built_in_backends_from_specs() -> None:
    assert {"grid", "random"} <= set(search_backends.names())
    assert search_backends.create({"name": "grid", "points": 3}) == Grid(points=3)
    assert search_backends.create("random") == Random()
    with pytest.raises(ConfigError, match=r"'search_backend\.pionts' must be an option of Grid; did you mean 'points'"):
        search_backends.create({"name": "grid", "pionts": 3})
