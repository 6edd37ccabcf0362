import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from imgcls.core.errors import ConfigError
from imgcls.search.table import best, front, table
from imgcls.search.trials import Entry, Outcome, Trial


def entry(number: int, values: Any = None, *, params: dict[str, Any] | None = None, reason: str = "") -> Entry:
    outcome = Outcome("failed", reason=reason) if values is None else Outcome("complete", values=values)
    return Entry(trial=Trial(number=number, params=params or {}), outcome=outcome)


def number_of(winner: Entry | None) -> int | None:
    return None if winner is None else winner.trial.number


def test_the_smallest_loss_wins_and_the_largest_accuracy() -> None:
    entries = [entry(0, 0.7), entry(1, 0.2), entry(2, 0.9)]
    assert number_of(best(entries, direction="minimize")) == 1
    assert number_of(best(entries, direction="maximize")) == 2


@given(st.lists(st.one_of(st.none(), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 0.5, 1.0]))))
def test_the_best_is_the_first_extreme_of_the_finite_values(values: list[float | None]) -> None:
    entries = [entry(number, value) for number, value in enumerate(values)]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    for direction, extreme in (("maximize", max), ("minimize", min)):
        expected = values.index(extreme(finite)) if finite else None
        assert number_of(best(reversed(entries), direction=direction)) == expected


def test_an_unfinished_trial_does_not_win() -> None:
    assert best([Entry(trial=Trial(number=0, params={}))], direction="maximize") is None


def test_a_wrong_direction_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'direction' must be 'maximize' or 'minimize', got 'max'"):
        best([], direction="max")


def test_of_several_values_the_first_one_decides_among_trials_that_keep_their_limits() -> None:
    good, better = entry(0, (0.8, 12.0)), entry(1, (0.9, 30.0))
    assert number_of(best([good, better], direction="maximize")) == 1
    limited = Entry(trial=better.trial, outcome=Outcome("complete", values=(0.9, 30.0), constraints=[10.0]))
    assert number_of(best([good, limited], direction="maximize")) == 0


@pytest.mark.parametrize("state", ["pruned", "paused"])
def test_a_trial_that_did_not_come_to_its_end_never_wins(state: str) -> None:
    cut = Entry(trial=Trial(number=0, params={}, budget=1), outcome=Outcome(state, values=1.0))
    assert number_of(best([cut, entry(1, 0.5)], direction="maximize")) == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_the_front_is_what_nobody_beats_in_everything(values: list[tuple[int, int]]) -> None:
    entries = [entry(number, pair) for number, pair in enumerate(values)]
    found = {one.trial.number for one in front(entries, directions=["maximize", "minimize"])}
    for number, (good, cost) in enumerate(values):
        beaten = any(g >= good and c <= cost and (g, c) != (good, cost) for g, c in values)
        assert (number in found) == (not beaten)


def test_rows_come_by_number_and_share_their_keys() -> None:
    rows = table(
        [
            entry(1, params={"optimizer": "adamw"}, reason="killed"),
            entry(0, 0.5, params={"optimizer": "sgd", "momentum": 0.9}),
            Entry(trial=Trial(number=2, params={"optimizer": "adamw"})),
        ]
    )
    assert rows == [
        {"number": 0, "state": "complete", "optimizer": "sgd", "momentum": 0.9, "value": 0.5, "reason": ""},
        {"number": 1, "state": "failed", "optimizer": "adamw", "momentum": None, "value": None, "reason": "killed"},
        {"number": 2, "state": "unfinished", "optimizer": "adamw", "momentum": None, "value": None, "reason": ""},
    ]
    assert {tuple(row) for row in rows} == {("number", "state", "optimizer", "momentum", "value", "reason")}


def test_several_directions_have_a_column_each() -> None:
    rows = table([entry(0, (0.9, 12.0)), entry(1)])
    assert [(row["value_0"], row["value_1"]) for row in rows] == [(0.9, 12.0), (None, None)]


def test_no_trials_make_no_rows() -> None:
    assert table([]) == []
