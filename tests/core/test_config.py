from __future__ import annotations

from typing import Any, ClassVar

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcls.balancing.balancer import Balancer
from imgcls.balancing.samplers import Uniform, Weighted
from imgcls.core import config, options
from imgcls.core.errors import ConfigError


@attrs.frozen(kw_only=True)
class Step:
    epochs: int = attrs.field(validator=options.count(1))
    lr: float = attrs.field(default=1e-3, validator=options.number(0, above=True))
    optimizer: Any = "adamw"


def _steps(values: Any) -> Any:
    return config.nested_list(Step, values, path="steps")


def _first(value: Any) -> Any:
    return config.nested(Step, value, path="first")


@attrs.frozen(kw_only=True)
class Plan:
    steps: tuple[Step, ...] = attrs.field(default=(), converter=_steps)
    first: Step | None = attrs.field(default=None, converter=_first)
    balancer: Balancer = attrs.field(factory=Balancer)


@attrs.frozen(kw_only=True)
class Sgd(config.Named):
    name: ClassVar[str] = "sgd"
    momentum: float = attrs.field(default=0.9, validator=options.fraction())


PLAN = Plan(steps=({"epochs": 2}, Step(epochs=8)))


def test_build_makes_nested_values() -> None:
    built = config.build(Plan, {"steps": [{"epochs": 2}, {"epochs": 8}], "first": {"epochs": 1}}, path="plan")
    assert built == attrs.evolve(PLAN, first=Step(epochs=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 1}, r"'plan\.epoch' must be an option of Step; did you mean 'epochs'\?"),
        ({}, r"'plan\.epochs' must be given"),
        ({"epochs": 0}, r"'plan\.epochs' must be a whole number of at least 1, got 0"),
        ({"epochs": 1, 3: 4}, r"'plan\.3' must be an option of Step"),
    ],
)
def test_build_names_the_path_of_a_wrong_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.build(Step, options, path="plan")


def test_wrong_option_deep_inside_has_its_whole_path() -> None:
    with pytest.raises(ConfigError, match=r"^'trainer\.steps\.1\.lr' must be a number above 0, got -1"):
        config.build(Plan, {"steps": [{"epochs": 2}, {"epochs": 8, "lr": -1}]}, path="trainer")


@pytest.mark.parametrize("spec", ["sgd", {"name": "sgd"}, {"name": "sgd", "momentum": 0.9}, Sgd()])
def test_pick_takes_a_name_a_spec_or_a_value(spec: Any) -> None:
    assert config.pick([Sgd], spec, path="optimizer") == Sgd()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sdg", r"'optimizer' must name one of its kinds, got 'sdg'; did you mean 'sgd'\?"),
        ({"momentum": 0.5}, r"'optimizer' must name one of its kinds, got None"),
        ({"name": "sgd", "momentum": 2}, r"'optimizer\.momentum' must be a number above 0 and below 1, got 2"),
        (3, r"got 3; there are 'sgd'"),
        ({"name": ["sgd"]}, r"'optimizer' must name one"),
    ],
)
def test_pick_refuses_a_wrong_spec(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.pick([Sgd], spec, path="optimizer")


def test_build_at_the_top_names_the_option_alone() -> None:
    with pytest.raises(ConfigError, match=r"^'epoch' must be an option"):
        config.build(Step, {"epoch": 1}, path="")
    with pytest.raises(ConfigError, match=r"^'epochs' must be a whole"):
        config.build(Step, {"epochs": 0}, path="")


def test_replace_changes_one_value_of_a_list() -> None:
    changed = config.replace(PLAN, {"steps.1.lr": 0.5})
    assert changed == Plan(steps=(Step(epochs=2), Step(epochs=8, lr=0.5)))
    assert PLAN.steps[1].lr == 1e-3


def test_replace_gives_a_spec_by_name_its_options() -> None:
    changed = config.replace(PLAN, {"steps.0.optimizer.lr": 3, "steps.0.optimizer.eps": 1})
    assert changed.steps[0].optimizer == {"name": "adamw", "lr": 3, "eps": 1}


def test_replace_makes_an_absent_value() -> None:
    assert config.replace(PLAN, {"first.epochs": 3}).first == Step(epochs=3)


def test_replace_runs_converters_and_validators() -> None:
    assert config.replace(PLAN, {"balancer.sampler": "weighted"}).balancer.sampler == Weighted()
    with pytest.raises(ConfigError, match=r"'balancer\.loss' must name one of its kinds, got 'bec'; did you mean"):
        config.replace(PLAN, {"balancer.loss": "bec"})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("step.0.lr", r"'step\.0\.lr' must lead to an option of Plan; did you mean 'steps'\?"),
        ("steps.0.lrs", r"'steps\.0\.lrs' must lead to an option of Step; did you mean 'lr'\?"),
        ("steps.2.lr", r"'steps\.2\.lr' must have a number from 0 to 1 where '2' stands"),
        ("steps.last.lr", r"must have a number from 0 to 1 where 'last' stands"),
        ("steps.0.epochs.x", r"'steps\.0\.epochs\.x' must lead to an option, got 2 before 'x'"),
    ],
)
def test_replace_refuses_a_path_that_leads_nowhere(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.replace(PLAN, {path: 1})


def test_replace_keeps_lists_lists_and_tuples_tuples() -> None:
    changed = config.replace({"a": [1, 2], "b": (1, 2)}, {"a.0": 9, "b.1": 9})
    assert changed == {"a": [9, 2], "b": (1, 9)}


def test_replace_of_an_untouched_option_keeps_it() -> None:
    assert config.replace(PLAN, {"steps.0.lr": 1.0}).balancer.sampler == Uniform()


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E5", 1e5), ("-.5", -0.5), ("3", 3), ("1.", 1.0), ("1e", "1e"), ("e4", "e4"), ("1-2", "1-2")],
)
def test_yaml_reads_numbers_as_everyone_means(text: str, value: object) -> None:
    read = config.from_yaml(f"lr: {text}")["lr"]
    assert (read, type(read)) == (value, type(value))


def test_wrong_yaml_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml must be YAML; .*line 2"):
        config.from_yaml("a: 1\nb: [", source="run.yaml")


def test_yaml_makes_no_objects() -> None:
    with pytest.raises(ConfigError, match="must be YAML"):
        config.from_yaml("!!python/object/apply:os.getcwd []")


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_yaml_round_trip(value: Any) -> None:
    assert config.from_yaml(config.to_yaml(value)) == value


@pytest.mark.parametrize("word", ["1e5", "010", "08", "1.", "null", "yes", "2020-01-01", "~", "", "1_0", "0x1"])
def test_words_that_look_like_values_stay_words_in_yaml(word: str) -> None:
    assert config.from_yaml(config.to_yaml({"label": word})) == {"label": word}


def test_yaml_writes_repeated_values_in_full() -> None:
    shared = [1, 2]
    assert "&" not in config.to_yaml({"a": shared, "b": shared})
