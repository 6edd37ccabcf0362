from __future__ import annotations

from typing import Any

import attrs
import pytest

from imgcls.core import options
from imgcls.core.errors import ConfigError


def checked(validator: options.Validator, value: Any) -> None:
    field = attrs.field(validator=validator)
    attrs.make_class("Owner", {"size": field})(size=value)


@pytest.mark.parametrize(
    ("validator", "values"),
    [
        (options.number(), [0, -1.5, 10**9]),
        (options.number(0, 1), [0, 1, 0.5]),
        (options.number(0, above=True), [1e-9]),
        (options.fraction(), [0.01, 0.99]),
        (options.count(), [1, 7]),
        (options.seed(), [0]),
        (options.choice("a", "b"), ["a", "b"]),
        (options.instance(int, str), [1, "x"]),
        (options.instance(bool), [True]),
        (options.optional(options.count()), [None, 3]),
    ],
)
def test_good_values_pass(validator: options.Validator, values: list[Any]) -> None:
    for value in values:
        checked(validator, value)


@pytest.mark.parametrize(
    ("validator", "value", "message"),
    [
        (options.number(), True, "'size' must be a number, got True"),
        (options.number(), float("nan"), "must be a number, got nan"),
        (options.number(0, 1), 1.5, "of at least 0 and at most 1, got 1.5"),
        (options.number(0, above=True), 0, "must be a number above 0, got 0"),
        (options.fraction(), 1, "above 0 and below 1, got 1"),
        (options.count(), 1.0, "must be a whole number of at least 1, got 1.0"),
        (options.count(2), 1, "at least 2, got 1"),
        (options.count(), True, "whole number"),
        (options.choice("light", "heavy"), "ligth", "one of 'light', 'heavy', got 'ligth'; did you mean 'light'?"),
        (options.choice("a"), ["a"], r"got ['a']"),
        (options.instance(int, str), 1.5, "must be an int or a str, got 1.5"),
        (options.instance(int), True, "must be an int, got True"),
        (options.optional(options.count()), 0, "at least 1, got 0"),
    ],
)
def test_wrong_values_are_refused_by_name(validator: options.Validator, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(validator, value)
    assert message in str(caught.value)
    assert str(caught.value).startswith("'size' must be ")


def test_texts_turns_lists_into_tuples_only() -> None:
    assert [options.texts(["a"]), options.texts("a"), options.texts(3)] == [("a",), "a", 3]
