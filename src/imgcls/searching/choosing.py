"""Which backbone is fine-tuned, and for how many epochs, in the time that there is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from imgcls.core.dumping import dump
from imgcls.core.options import rejected
from imgcls.core.progress import say
from imgcls.evaluation.metrics import METRICS
from imgcls.searching.affording import Cost, cost_of
from imgcls.searching.probing import Probe, Score, opened, probed, scored
from imgcls.trainer import Trainer
from imgcls.training.stages import Stage

__all__ = ["chosen"]

#: The share of the time after decoding that looking at backbones may take.
_LOOKING = 0.4

#: The share after which the timing of the steps of one backbone ends.
_PATIENCE = 0.02

#: What is kept for evaluation: a share of the time, and seconds if they are not too large a share.
_KEPT, _SECONDS, _AT_MOST = 0.05, 10.0, 0.2

#: So much of what is left is planned to be used: a machine is not always as fast as when it was measured.
_TRUSTED = 0.9

#: Epochs of the head, those of the whole network at most, and those that a backbone must have time for to be preferred.
_HEAD_EPOCHS, _MOST, _FEW = 5, 20, 3

#: Learning rates are those of the Trainer's own stages. The head sees images as they are, so that features are kept.
_HEAD = Stage(epochs=_HEAD_EPOCHS, train="head", lr=3e-3, augment=[])
_ALL = Stage(epochs=_MOST, train="all", lr=3e-4)


@attrs.frozen(kw_only=True, eq=False)
class _Clock:
    """The time that is left, and all that there was, in seconds."""

    left: Callable[[], float]
    total: float

    @property
    def spent(self) -> float:
        return self.total - self.left()

    # Until the evaluation.
    @property
    def rest(self) -> float:
        return self.left() - max(_KEPT * self.total, min(_SECONDS, _AT_MOST * self.total))


@attrs.frozen(kw_only=True, eq=False)
class _Plan:
    """A backbone with what it costs and how many epochs there is time for."""

    number: int
    cost: Cost
    epochs: int

    @property
    def stages(self) -> list[Stage]:
        return [_HEAD, attrs.evolve(_ALL, epochs=self.epochs)] if self.epochs else [_HEAD]

    def __str__(self) -> str:
        if not self.epochs:
            return f"the head alone for {_HEAD_EPOCHS} epochs, as there is no time to train the whole network"
        return f"the head for {_HEAD_EPOCHS} epochs, then all of it for {self.epochs}"


def chosen(trainers: Mapping[int, Trainer], *, left: Callable[[], float], seconds: float) -> dict[str, Any]:
    """Probe backbones, and plan the training of the best one that there is time for.

    Args:
        trainers: A Trainer with each backbone, by number, cheap ones first.
        left: Says how many seconds are left.
        seconds: How many there were.

    Returns:
        Plain values: `number` and name of the `winner`, `why`, the `plan` in words, the `options` of its Trainer,
        `metric`, `records` and `backbones`, a row for each.

    Raises:
        ConfigError: if the time is too short for anything.
    """
    clock = _Clock(left=left, total=seconds)
    probes, rows = _looked(trainers, clock)
    first = next(iter(trainers.values()))
    metric, found = scored(first, list(probes.values()))
    scores = dict(zip(probes, found, strict=True))
    for number, score in scores.items():
        rows[number] |= {name: _known(value) for name, value in attrs.asdict(score).items()}
    plan, others = _planned(trainers, probes, _ranking(scores, metric), clock)
    for other in (*others, plan):
        rows[other.number] |= {"epoch_seconds": round(other.cost.epoch, 1), "epochs": other.epochs}
    probe = probes[plan.number]
    time = max(clock.rest - plan.cost.finish, 1.0)
    return {
        "number": plan.number,
        "winner": rows[plan.number]["name"],
        "why": _why(plan, others, scores, metric, rows),
        "plan": str(plan),
        "options": {"stages": dump(plan.stages), "max_time": round(time, 1), "precision": probe.precision},
        "metric": metric,
        "records": len(probe.records),
        "backbones": list(rows.values()),
    }


# What the cheapest one takes is the least; the others may take what is left of the share.
def _looked(trainers: Mapping[int, Trainer], clock: _Clock) -> tuple[dict[int, Probe], dict[int, dict[str, Any]]]:
    probes: dict[int, Probe] = {}
    rows: dict[int, dict[str, Any]] = {}
    until = 0.0
    for number, trainer in trainers.items():
        candidate = opened(trainer)
        until = until or clock.spent + _LOOKING * clock.left()
        backbone = dump(trainer.backbone)
        rows[number] = {
            "name": _name(backbone),
            "backbone": backbone,
            "ms_per_image": round(1000 * candidate.image_seconds, 2),
        }
        if clock.spent + candidate.seconds > until:
            if not probes:
                needed = clock.spent + candidate.seconds / _LOOKING
                raise _too_short(clock, needed, len(candidate.records))
            rows[number] |= {"left_out": f"its features would take {candidate.seconds:.0f} s more"}
            say(f"Left out: {rows[number]['name']}, {rows[number]['left_out']}")
            continue
        probes[number] = probed(candidate)
        rows[number] |= {"probe_seconds": round(probes[number].seconds, 1)}
    return probes, rows


def _too_short(clock: _Clock, needed: float, records: int) -> Exception:
    rule = f"be at least {math.ceil(10 * needed / 60) / 10:g} for {records} records on this machine"
    return rejected("minutes", rule, round(clock.total / 60, 3), "or give a cheaper backbone or a smaller 'image'")


# Of a class that many resamples lack there is no interval.
def _known(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _name(spec: Mapping[str, Any]) -> str:
    return str(spec.get("model") or spec.get("name") or spec)


def _ranking(scores: Mapping[int, Score], metric: str) -> list[int]:
    sign = -1.0 if METRICS[metric].direction == "max" else 1.0
    return sorted(scores, key=lambda number: sign * scores[number].value)


# The best one with time for some epochs; where none has it, the best one. Beside it those that were tried before.
def _planned(
    trainers: Mapping[int, Trainer], probes: Mapping[int, Probe], ranking: Sequence[int], clock: _Clock
) -> tuple[_Plan, list[_Plan]]:
    tried: list[_Plan] = []
    half = clock.rest / 2
    for number in ranking:
        if tried and clock.rest < half:
            break  # the time is for training
        trainer = attrs.evolve(trainers[number], precision=probes[number].precision)
        cost = cost_of(trainer, probes[number], _ALL, patience=_PATIENCE * clock.total)
        tried.append(_Plan(number=number, cost=cost, epochs=_epochs(cost, clock)))
        if tried[-1].epochs >= _FEW:
            return tried[-1], tried[:-1]
    best = attrs.evolve(tried[0], epochs=_epochs(tried[0].cost, clock))  # to look at the others took time, too
    if _rest(best.cost, clock) < 0:
        raise _too_short(clock, clock.total - _rest(best.cost, clock) / _TRUSTED, len(probes[best.number].records))
    return best, tried[1:]


def _epochs(cost: Cost, clock: _Clock) -> int:
    return max(min(int(_rest(cost, clock) / cost.epoch), _MOST), 0)


# Seconds that are left for epochs of the whole network.
def _rest(cost: Cost, clock: _Clock) -> float:
    return _TRUSTED * (clock.rest - cost.finish - _HEAD_EPOCHS * cost.head_epoch)


def _why(
    plan: _Plan, others: Sequence[_Plan], scores: Mapping[int, Score], metric: str, rows: Mapping[int, Any]
) -> str:
    own = scores[plan.number]
    said = f"{metric} {own.value:.4f} ({own.low:.4f} to {own.high:.4f}) of a linear model of its features"
    better = [other for other in others if other.epochs < _FEW and scores[other.number].behind < own.behind]
    close = [rows[number]["name"] for number, one in scores.items() if number != plan.number and not one.behind_low > 0]
    if len(scores) == 1:
        return f"{said}, the only one that was looked at"
    if better:
        named = ", ".join(f"{rows[one.number]['name']} ({scores[one.number].value:.4f})" for one in better)
        return f"{said}, the best one with time for {_FEW} epochs; {named} has not"
    return f"{said}, the best one, {'not clearly above ' + ', '.join(close) if close else 'clearly above the others'}"
