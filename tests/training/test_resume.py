import itertools
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from imgcls.augment.augment import to_augment
from imgcls.balancing.balancer import Balancer
from imgcls.models.base import Classifier
from imgcls.runtime.checkpoints import load_checkpoint
from imgcls.runtime.interruption import Interrupted, interruptible
from imgcls.training import loop
from imgcls.training.averaging import Ema
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.job import Job
from imgcls.training.loop import Listeners, fit
from imgcls.training.optimizers import Sgd
from imgcls.training.schedules import Cosine, OneCycle, Plateau, Step
from imgcls.training.stages import EarlyStopping, NonFinite, Snapshots, Stage

Plan = Callable[..., Job]
Network = Callable[..., Classifier]
Weights = dict[str, Tensor]

pytestmark = pytest.mark.usefixtures("one_thread")

TWO = (Stage(epochs=1, train="head", lr=0.05), Stage(epochs=2, lr=0.02, schedule=Cosine(), warmup=3))

#: What the state of a training has to hold, each in one option at least.
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two stages": {"stages": TWO, "monitor": "loss"},
    "head": {"stages": (Stage(epochs=2, train="head", lr=0.1),)},
    "blocks": {"stages": (Stage(epochs=2, train=1, lr=0.02, layer_decay=0.5),), "optimizer": Sgd(momentum=0.9)},
    "ema": {"ema": Ema(decay=0.8)},
    "soup": {"average": 2, "stages": (Stage(epochs=3, lr=0.02),)},
    "soup of averages": {"average": 2, "ema": Ema(decay=0.5), "validate_every": 2},
    "parts": {"parts": 2},
    "clipping": {"clip_grad": 0.1},
    "plateau": {
        "schedule": Plateau(patience=0),
        "stages": (Stage(epochs=4, lr=0.3),),
        "batch_size": 14,
        "optimizer": Sgd(),
    },
    "steps": {"schedule": Step(step_size=1, gamma=0.5), "validate_every": 1},
    "one cycle": {"schedule": OneCycle()},
    "early stopping": {
        "early_stopping": EarlyStopping(patience=1),
        "stages": (Stage(epochs=5, lr=0.2), Stage(epochs=1)),
        "batch_size": 14,
    },
    "validations": {"validate_every": 3, "checkpoint_every": 2},
    "snapshots": {"snapshots": Snapshots(every=1, keep=1)},
    "augmented": {"augment": to_augment(["flip-lr", "mixup"])},
    "oversampled": {"balancer": Balancer(sampler="oversample", loss="focal")},
    "rate": {"stages": (Stage(epochs=2, lr="find"),)},
    "skipping": {"nonfinite": NonFinite(policy="skip")},
    "rolling back": {"nonfinite": NonFinite(policy="rollback"), "validate_every": 2},
}


class Killed(BaseException):
    """Stands for a process that ends without a word."""


@attrs.frozen(kw_only=True)
class Trained:
    """What a training leaves."""

    weights: Weights
    history: list[EpochEnd]
    steps: list[StepEnd]


def train(model: Classifier, job: Job, **listeners: Any) -> Trained:
    steps: list[StepEnd] = []
    given = listeners.pop("step", lambda _: None)

    def on_step(event: StepEnd) -> None:
        steps.append(event)
        given(event)

    history = fit(model, job, Listeners(step=on_step, **listeners))
    return Trained(weights=dict(model.state_dict()), history=history, steps=steps)


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def timeless(history: list[EpochEnd]) -> list[str]:
    """Write out events without their duration; NaN equals NaN so."""
    return [repr(attrs.evolve(event, seconds=0.0)) for event in history]


def check_equal(found: Trained, whole: Trained, job: Job, of_whole: Job) -> None:
    assert same(found.weights, whole.weights)
    assert timeless(found.history) == timeless(whole.history)
    for name in ("best", "last"):
        one, other = load_checkpoint(job.folder / name), load_checkpoint(of_whole.folder / name)
        assert same(one.weights, other.weights)
        assert one.facts == other.facts
    kept, of_other = (sorted(path.name for path in (one.folder / "epochs").glob("*")) for one in (job, of_whole))
    assert kept == of_other


@pytest.mark.parametrize("name", OPTIONS)
def test_stopped_in_every_step_training_ends_as_without_a_stop(name: str, plan: Plan, network: Network) -> None:
    """A signal after every step of a training: each part of it does one step, or one validation."""
    options = OPTIONS[name]
    of_whole, job = plan(**options), plan(**options)
    whole = train(network(dropout=0.3), of_whole)
    steps, stops = [], 0
    for _ in range(100):
        model = network(seed=9 + stops, dropout=0.3)  # its weights are those of the checkpoint, or of the seed
        if stops == 0:
            model = network(dropout=0.3)

        def stop(event: StepEnd) -> None:
            steps.append(event)
            signal.raise_signal(signal.SIGTERM)

        try:
            with interruptible():
                found = train(model, job, step=stop)
                break
        except Interrupted:
            stops += 1
    check_equal(found, whole, job, of_whole)
    assert steps == whole.steps
    assert stops == len(whole.steps)


@pytest.mark.parametrize("name", OPTIONS)
def test_killed_in_a_step_training_ends_as_without_it(name: str, plan: Plan, network: Network) -> None:
    options = OPTIONS[name]
    of_whole = plan(**options)
    whole = train(network(dropout=0.3), of_whole)
    for last in {1, len(whole.steps) // 2, len(whole.steps) - 2}:
        job = plan(**options)

        def die(event: StepEnd, last: int = last) -> None:
            if event.step == last:
                raise Killed

        with pytest.raises(Killed):
            train(network(dropout=0.3), job, step=die)
        check_equal(train(network(dropout=0.3), job), whole, job, of_whole)


@pytest.mark.parametrize(("name", "first"), [("two stages", 5), ("validations", 9), ("soup of averages", 12)])
def test_killed_in_a_save_training_ends_as_without_it(
    name: str, first: int, plan: Plan, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files get their names one after the other; between any two the process may be killed."""
    options = OPTIONS[name]
    of_whole = plan(**options)
    whole = train(network(dropout=0.3), of_whole)
    job, replace, left = plan(**options), Path.replace, 0

    def dying(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", dying)
    for length in range(1, 50):
        left = first + length % 3
        try:
            found = train(network(dropout=0.3), job)
            break
        except Killed:
            continue
    check_equal(found, whole, job, of_whole)
    assert length > 2


def test_a_validation_that_is_stopped_is_done_when_training_goes_on(
    plan: Plan, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_UNASKED", 1)
    options = {"validate_every": 5, "ema": Ema(decay=0.5), "stages": (Stage(epochs=1, lr=0.02),), "batch_size": 2}
    of_whole, job = plan(**options), plan(**options)
    whole = train(network(), of_whole)
    asked, stops = itertools.count(), 0
    monkeypatch.setattr(loop, "wanted", lambda: next(asked) % 5 == 4)
    for _ in range(100):
        try:
            found = train(network(), job)
            break
        except Interrupted:
            stops += 1
    check_equal(found, whole, job, of_whole)
    assert stops > 4


def test_the_search_for_a_rate_is_stopped_at_once(plan: Plan, network: Network) -> None:
    model, job, calls = network(), plan(stages=(Stage(epochs=1, lr="find"),)), itertools.count()

    def stop(*_: Any) -> None:
        if next(calls) == 3:
            signal.raise_signal(signal.SIGTERM)

    handle = model.register_forward_pre_hook(stop)
    with pytest.raises(Interrupted), interruptible():
        train(model, job)
    handle.remove()
    assert next(calls) == 4
    assert len(train(network(), job).history) == 1


def test_training_that_is_over_is_only_concluded(plan: Plan, network: Network) -> None:
    job = plan()
    whole, again = train(network(), job), train(network(seed=1), job)
    assert same(again.weights, whole.weights)
    assert again.history == whole.history
    assert not again.steps


def test_listeners_hear_first_what_happened_before(plan: Plan, network: Network) -> None:
    job, told = plan(), []

    def die(event: StepEnd) -> None:
        if event.step == 6:
            raise Killed

    with pytest.raises(Killed):
        train(network(), job, step=die)
    found = train(network(), job, begin=lambda past, steps: told.append((past, steps)))
    assert told == [(found.history[:1], 4)]


def test_a_damaged_checkpoint_costs_an_epoch_and_no_bit(plan: Plan, network: Network) -> None:
    options = {"stages": (Stage(epochs=3, lr=0.02),)}
    of_whole, job = plan(**options), plan(**options)
    whole = train(network(), of_whole)

    def die(event: StepEnd) -> None:
        if event.step == 9:
            raise Killed

    with pytest.raises(Killed):
        train(network(), job, step=die)
    file = max((job.folder / "last").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    found = train(network(), job)
    assert found.steps[0].step == 4
    check_equal(found, whole, job, of_whole)


def test_a_process_killed_in_its_first_save_begins_again(plan: Plan, network: Network) -> None:
    job = plan()
    (job.folder / "last").mkdir(parents=True)
    (job.folder / "last" / ".save-000001.safetensors.tmp-7").write_bytes(b"half")
    assert len(train(network(), job).history) == 2


def test_time_spent_before_counts(plan: Plan, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("imgcls.training.loop.time.perf_counter", lambda: now)

    def tick(event: StepEnd) -> None:
        nonlocal now
        now += 1.0
        if event.step == 6:
            signal.raise_signal(signal.SIGTERM)

    job = plan(seconds=10.0, stages=(Stage(epochs=9, lr=0.01),))
    with pytest.raises(Interrupted), interruptible():
        train(network(), job, step=tick)
    now = 1e6  # the pause does not count
    found = train(network(), job, step=tick)
    assert [event.seconds for event in found.history] == pytest.approx([4.0, 4.0, 4.0])  # four steps an epoch
    assert math.isfinite(found.history[-1].train_loss)
