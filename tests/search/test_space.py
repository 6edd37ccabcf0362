import itertools
import json
from collections.abc import Mapping
from typing import Any

import attrs
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from imgcls.core.config import from_yaml, replace, to_yaml
from imgcls.core.errors import ConfigError
from imgcls.core.randomness import generator
from imgcls.search.plain import canonical
from imgcls.search.space import Choice, Fixed, Float, Int, Parameter, Space

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["a", "b", 0.5, 1e-7]))
CHOICES = st.lists(SCALARS, min_size=1, max_size=4, unique_by=canonical).map(lambda values: {"choice": values})
INTS = st.tuples(st.integers(-9, 9), st.integers(1, 4), st.integers(1, 3)).map(
    lambda drawn: {"int": [drawn[0], drawn[0] + drawn[1] * drawn[2]], "step": drawn[1]}
)
LOG_INTS = st.tuples(st.integers(1, 50), st.integers(1, 5)).map(
    lambda drawn: {"int": [drawn[0], drawn[0] + drawn[1]], "log": True}
)
FLOATS = st.tuples(st.floats(1e-9, 1.0), st.floats(1.5, 1e9), st.booleans()).map(
    lambda drawn: {"float": [drawn[0], drawn[1]], "log": drawn[2]}
)
DISCRETE = st.one_of(CHOICES, INTS, LOG_INTS, SCALARS.map(lambda value: {"fixed": value}))


@st.composite
def plain_spaces(draw: st.DrawFn, parameters: st.SearchStrategy[dict[str, Any]] = DISCRETE) -> dict[str, Any]:
    space: dict[str, Any] = {}
    for path in ("a", "b", "c.x", "d")[: draw(st.integers(1, 4))]:
        spec = dict(draw(parameters))
        others = [other for other in space if "float" not in space[other]]
        for other in draw(st.lists(st.sampled_from(others), unique=True, max_size=2)) if others else ():
            values = list(Space.of(space)[other].listed() or ())
            wanted = draw(st.lists(st.sampled_from(values), min_size=1, unique_by=canonical))
            spec.setdefault("when", {})[other] = wanted
        space[path] = spec
    return space


MIXED = plain_spaces(parameters=st.one_of(DISCRETE, FLOATS))


def without_inactive(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for path, value in params.items():
        conditions = space[path].when.items()
        if all(other in kept and canonical(kept[other]) in map(canonical, values) for other, values in conditions):
            kept[path] = value
    return kept


@given(plain_spaces())
def test_the_grid_is_the_product_without_inactive_parameters_each_combination_once(plain: dict[str, Any]) -> None:
    space = Space.of(plain)
    product = itertools.product(*(list(one.listed() or ()) for one in space.values()))
    expected = {canonical(without_inactive(space, dict(zip(space, values, strict=True)))) for values in product}
    found = [canonical(params) for params in space.grid()]
    assert len(found) == len(set(found)) == space.size()
    assert set(found) == expected


@given(MIXED, st.integers(0, 2**32))
def test_every_sample_and_every_combination_lies_inside(plain: dict[str, Any], seed: int) -> None:
    space = Space.of(plain)
    rng = generator(seed)
    for params in [space.sample(rng), space.sample(rng), *itertools.islice(space.grid(points=3), 20)]:
        space.check(params)


@given(MIXED, st.integers(0, 2**32))
def test_the_same_generator_gives_the_same_sample(plain: dict[str, Any], seed: int) -> None:
    space = Space.of(plain)
    assert space.sample(generator(seed)) == space.sample(generator(seed))


@given(MIXED)
def test_a_space_survives_json_and_yaml_with_its_hash(plain: dict[str, Any]) -> None:
    space = Space.of(plain)
    for copy in (json.loads(json.dumps(space.to_dict())), from_yaml(to_yaml(space.to_dict()))):
        assert Space.from_dict(copy) == space
        assert Space.from_dict(copy).hash == space.hash


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300), st.integers(0, 9))
def test_wide_and_narrow_floats_stay_in_their_range(one: float, other: float, seed: int) -> None:
    low, high = sorted((one, other))
    if low < high:
        values = [Float(low, high).draw(generator(seed)), *(Float(low, high).listed(points=4) or ())]
        assert all(low <= value <= high for value in values)
        assert (values[1], values[-1]) == (low, high)


def test_log_ranges_spread_over_orders_of_magnitude() -> None:
    rng = generator(0)
    below = [Float(1e-6, 1, log=True).draw(rng) < 1e-3 for _ in range(2000)]
    assert np.mean(below) == pytest.approx(0.5, abs=0.04)
    assert np.mean([Int(1, 10_000, log=True).draw(rng) <= 100 for _ in range(2000)]) == pytest.approx(0.5, abs=0.06)


def test_uniform_ints_reach_every_step_equally() -> None:
    rng = generator(0)
    drawn = [Int(0, 6, step=2).draw(rng) for _ in range(2000)]
    assert np.bincount(drawn, minlength=7) == pytest.approx([500, 0, 500, 0, 500, 0, 500], abs=80)


def test_points_stand_for_continuous_and_logarithmic_ranges_alone() -> None:
    space = Space.of({"lr": Float(1e-4, 1e-2, log=True), "width": Int(1, 100, log=True), "depth": Int(1, 2)})
    assert space.size() is None
    combinations = list(space.grid(points=3))
    assert sorted({params["lr"] for params in combinations}) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert {params["width"] for params in combinations} == {1, 10, 100}
    assert len(combinations) == 18
    with pytest.raises(ConfigError, match=r"'points' must be given for the continuous 'lr', got None"):
        space.grid()


def test_a_large_space_is_counted_without_being_listed() -> None:
    parameters: dict[str, Any] = {f"p{index}": Int(0, 99) for index in range(8)}
    assert Space.of(parameters).size() == 100**8
    parameters["p7"] = Int(0, 99, when={"p0": 3})
    assert Space.of(parameters).size() == 99 * 100**6 + 100**7


def test_lists_are_choices_and_other_values_are_fixed() -> None:
    space = Space.of(
        {
            "backbone": ["resnet18", {"name": "small-cnn"}],
            "lr": np.array([0.1, 0.2]),
            "head": {"depth": 2},
            "seed": 3,
            "stages": {"fixed": [{"epochs": 2}]},
        }
    )
    assert space["backbone"] == Choice("resnet18", {"name": "small-cnn"})
    assert space["lr"] == Choice(0.1, 0.2)
    assert space["head"] == Fixed({"depth": 2})
    assert (space["seed"], space["stages"]) == (Fixed(3), Fixed([{"epochs": 2}]))


def test_attrs_values_become_the_plain_ones_that_a_trainer_takes() -> None:
    @attrs.frozen(kw_only=True)
    class Head:
        depth: int = 1

    assert Choice(Head(), Head(depth=2)).values == ({"depth": 1}, {"depth": 2})


def test_grid_of_the_reference_drops_momentum_and_schedule_options_that_have_no_effect() -> None:
    space = Space.of(
        {
            "optim": ["Adam", "SGD"],
            "momentum": Choice(0.8, 0.9, when={"optim": "SGD"}),
            "schedule": ["none", "step"],
            "step_size": Choice(5, 10, 50, when={"schedule": "step"}),
            "model": ["resnet18"],
        }
    )
    assert space.size() == (1 + 2) * (1 + 3)


def test_true_and_one_are_different_values() -> None:
    space = Space.of({"a": [True, 1], "b": Choice("x", "y", when={"a": True})})
    assert [*space.grid()] == [{"a": True, "b": "x"}, {"a": True, "b": "y"}, {"a": 1}]


def test_what_lies_above_comes_first_so_that_changes_apply_in_order() -> None:
    space = Space.of({"optimizer.momentum": Fixed(0.9, when={"optimizer": "sgd"}), "optimizer": ["sgd"], "lr": 1.0})
    assert list(space) == ["optimizer", "optimizer.momentum", "lr"]
    (params,) = space.grid()
    changed = replace({"optimizer": "adamw", "lr": 0.1}, params)
    assert changed == {"optimizer": {"name": "sgd", "momentum": 0.9}, "lr": 1.0}


def test_order_and_values_change_the_hash_and_whole_floats_do_not() -> None:
    space = Space.of({"a": [1, 2], "b": Float(0, 1)})
    assert space == Space.of(space)
    assert space.hash == Space.of({"a": [1.0, 2], "b": Float(0.0, 1.0)}).hash
    others = [{"b": Float(0, 1), "a": [1, 2]}, {"a": [2, 1], "b": Float(0, 1)}, {"a": [1, 2], "b": Float(0, 2)}]
    assert space.hash not in {Space.of(other).hash for other in others}


def test_changing_a_given_value_afterwards_does_not_change_the_space() -> None:
    spec = {"name": "sgd"}
    space = Space.of({"optimizer": [spec]})
    spec["name"] = "adamw"
    assert space["optimizer"].holds({"name": "sgd"})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Choice, r"'values' must hold at least one choice, got \[\]"),
        (lambda: Choice("a", "b", "a"), r"'values' must differ from each other, .*; remove the second 'a'"),
        (lambda: Choice(1, 1.0), r"'values' must differ .*; remove the second 1\.0"),
        (lambda: Choice(["a", "b"]), r"'values' must be given one by one, got \['a', 'b'\]; write Choice\(a, b\)"),
        (lambda: Choice(float("nan")), r"'values' must hold plain values, got nan; use strings, finite"),
        (lambda: Choice(len), r"'values' must hold plain values, got <built-in function len>"),
        (lambda: Float(1, 1), r"'high' must be above 'low' \(1\.0\), got 1\.0; a single value is Fixed"),
        (lambda: Float(2, 1), r"'high' must be above 'low'"),
        (lambda: Float(0, 1, log=True), r"'log' must be False where 'low' \(0\.0\) is not above 0, got True"),
        (lambda: Float("1e-5", 1), r"'low' must be a number, got '1e-5'"),
        (lambda: Float(0, float("inf")), r"'high' must be a number, got inf"),
        (lambda: Int(-1, 8, log=True), r"'log' must be False where 'low' \(-1\)"),
        (lambda: Int(0.5, 8), r"'low' must be a whole number .* got 0\.5"),
        (lambda: Int(0, 10**20), r"'high' must be a whole number \(and at most 2\*\*53 in size\)"),
        (lambda: Int(1, 10, step=4), r"'step' must lead from 1 to 10 .*, got 4; take high=9 or high=13"),
        (lambda: Int(1, 9, step=2, log=True), r"'step' must be 1 in a logarithmic range, got 2"),
        (lambda: Int(1, 9, step=0), r"'step' must be a whole number of at least 1, got 0"),
        (lambda: Fixed(1, when="sgd"), r"'when' must map other paths to the values"),
        (lambda: Fixed(1, when={"a": []}), r"'when\.a' must have at least one value"),
    ],
)
def test_a_wrong_parameter_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, r"'space' must map at least one path of the Trainer to values, got \{\}"),
        (["lr"], r"'space' must map at least one path"),
        ({"stages..lr": 1}, r"'space' must have dotted paths as keys, such as 'stages\.1\.lr', got 'stages\.\.lr'"),
        ({"lr": []}, r"'space\.lr\.values' must hold at least one choice"),
        ({"stages.1.lr": {"float": [1, 0]}}, r"'space\.stages\.1\.lr\.high' must be above 'low'"),
        ({"lr": {"float": [0, 1, 2]}}, r"'space\.lr\.float' must be \[low, high\], got \[0, 1, 2\]"),
        ({"lr": {"float": [0, 1], "lgo": True}}, r"'space\.lr\.lgo' must be an option of 'float'; did you mean 'log'"),
        ({"lr": {"choice": 3}}, r"'space\.lr\.choice' must be a list of values, got 3"),
        ({"lr": {"int": [0, 1], "float": [0, 1]}}, r"'space\.lr\.float' and 'int' must not stand together"),
        (
            {"lr": Fixed(1, when={"optimiser": "sgd"}), "optimizer": ["sgd"]},
            r"'space\.lr\.when\.optimiser' must name a parameter of the space; did you mean 'optimizer'",
        ),
        (
            {"lr": Fixed(1, when={"optimizer": "sdg"}), "optimizer": ["sgd", "adam"]},
            r"'space\.lr\.when\.optimizer' must be one of 'sgd', 'adam', got 'sdg'; the condition could never hold",
        ),
        ({"lr": Fixed(1, when={"wd": 0.5}), "wd": Float(0, 1)}, r"'space\.lr\.when\.wd' must name a discrete"),
        ({"a": Fixed(1, when={"b": 1}), "b": Fixed(1, when={"a": 1})}, r"no circular .*, got the circle 'a', 'b', 'a'"),
        ({"a": Fixed(1, when={"a": 1})}, r"no circular conditions, got the circle 'a', 'a'"),
        ({"a": Fixed("x", when={"a.b": 1}), "a.b": [1]}, r"no circular conditions"),
    ],
)
def test_a_wrong_space_is_refused(space: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Space.of(space)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"optimizer": "adam", "lr": 0.5, "depth": 1}, r"'params\.lr' must be a number from 0\.001 to 0\.1, got 0\.5"),
        ({"optimizer": "adam", "lr": 0.01, "depth": 2}, r"'params\.depth' must be a whole number from 1 to 5 in steps"),
        ({"optimizer": "adam", "lr": 0.01, "depth": True}, r"'params\.depth' must be a whole number"),
        ({"optimizer": "lion", "lr": 0.01, "depth": 1}, r"'params\.optimizer' must be one of 'adam', 'sgd', got"),
        ({"optimizer": "adam", "depth": 1}, r"'params\.lr' must be given"),
        ({"optimizer": "sgd", "lr": 0.01, "depth": 1}, r"'params\.momentum' must be given"),
        (
            {"optimizer": "adam", "lr": 0.01, "depth": 1, "momentum": 0.9},
            r"'params\.momentum' must be left out unless \{'optimizer': \['sgd'\]\}, got 0\.9",
        ),
        ({"optimizer": "sgd", "lr": 0.01, "depth": 1, "momentum": 0.8}, r"'params\.momentum' must be 0\.9, got 0\.8"),
        ({"optimzer": "adam"}, r"'params\.optimzer' must name a parameter of the space; did you mean 'optimizer'"),
    ],
)
def test_parameters_outside_the_space_are_refused(params: dict[str, Any], message: str) -> None:
    space = Space.of(
        {
            "optimizer": ["adam", "sgd"],
            "lr": Float(1e-3, 0.1),
            "depth": Int(1, 5, step=2),
            "momentum": Fixed(0.9, when={"optimizer": "sgd"}),
        }
    )
    with pytest.raises(ConfigError, match=message):
        space.check(params)


def test_numpy_numbers_are_taken_as_plain_ones() -> None:
    made: list[Parameter] = [Float(np.float32(0.5), np.int64(1)), Int(np.int64(1), np.int64(3)), Choice(np.float64(2))]
    assert made == [Float(0.5, 1.0), Int(1, 3), Choice(2.0)]
