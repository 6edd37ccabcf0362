"""Studies as tables: one row per trial, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from imgcls.core.errors import nearest
from imgcls.core.options import rejected
from imgcls.search.trials import DIRECTIONS, Entry

__all__ = ["best", "front", "table"]


def table(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Lay out the trials of a study.

    Args:
        entries: The trials, as `Study.entries` has them.

    Returns:
        Rows by number, all with the same keys: `number`, `state` (of `STATES`, or `unfinished`), each path of any
        trial (None where it is not active), `value` (`value_0`, `value_1`, ... in a study with several directions)
        and `reason`.
    """
    ordered = sorted(entries, key=lambda entry: entry.trial.number)
    paths = list(dict.fromkeys(path for entry in ordered for path in entry.trial.params))
    width = max((len(entry.outcome.values) for entry in ordered if entry.outcome), default=1)
    names = ["value"] if width < 2 else [f"value_{index}" for index in range(width)]
    return [_row(entry, paths, names) for entry in ordered]


def _row(entry: Entry, paths: list[str], names: list[str]) -> dict[str, Any]:
    outcome = entry.outcome
    values = outcome.values if outcome else ()
    return {
        "number": entry.trial.number,
        "state": outcome.state if outcome else "unfinished",
        **{path: entry.trial.params.get(path) for path in paths},
        **{name: values[index] if values else None for index, name in enumerate(names)},
        "reason": outcome.reason if outcome else "",
    }


def best(entries: Iterable[Entry], *, direction: str) -> Entry | None:
    """Find the trial that won.

    Args:
        entries: The trials, as `Study.entries` has them.
        direction: `maximize` or `minimize`, as the metric has it.

    Returns:
        The complete trial with the best finite value, of several the first one, the earliest of equal trials; None
        where there is none. A trial that did not come to its end, breaks a limit or has a value that is not finite
        never wins.

    Raises:
        ConfigError: if the direction is unknown.
    """
    if direction not in DIRECTIONS:
        raise rejected("direction", "be 'maximize' or 'minimize'", direction, nearest(str(direction), DIRECTIONS))
    sign = -1.0 if direction == "maximize" else 1.0
    ranked = [(sign * _value(entry), entry.trial.number, entry) for entry in entries if _finished(entry)]
    return min(ranked, key=lambda one: one[:2])[2] if ranked else None


def _finished(entry: Entry) -> bool:
    outcome = entry.outcome
    done = outcome is not None and outcome.state == "complete" and outcome.allowed
    return done and outcome is not None and all(map(math.isfinite, outcome.values))


def _value(entry: Entry) -> float:
    assert entry.outcome is not None
    return entry.outcome.values[0]


def front(entries: Iterable[Entry], *, directions: Sequence[str]) -> list[Entry]:
    """Find the trials that no other one beats in every value: the Pareto front.

    Args:
        entries: The trials, as `Study.entries` has them.
        directions: Of each value.

    Returns:
        The trials by number.
    """
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in directions]
    done = [entry for entry in entries if _finished(entry)]
    losses = [_losses(entry, signs) for entry in done]
    beaten = [any(_beats(other, own) for other in losses) for own in losses]
    return [entry for entry, is_beaten in zip(done, beaten, strict=True) if not is_beaten]


def _losses(entry: Entry, signs: Sequence[float]) -> list[float]:
    assert entry.outcome is not None
    return [sign * value for sign, value in zip(signs, entry.outcome.values, strict=True)]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
