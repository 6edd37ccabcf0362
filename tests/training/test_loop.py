import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgcls.augment.augment import to_augment
from imgcls.balancing.balancer import Balancer
from imgcls.core.errors import TrainingError
from imgcls.models.base import Classifier
from imgcls.runtime.batches import forward
from imgcls.runtime.checkpoints import load_checkpoint
from imgcls.testing import blobs
from imgcls.testing.values import chance_untouched
from imgcls.training import loop
from imgcls.training.events import EpochEnd
from imgcls.training.job import Job
from imgcls.training.loop import Listeners, fit
from imgcls.training.losses import training_loss
from imgcls.training.monitor import MONITORS, epoch_metrics
from imgcls.training.optimizers import Sgd
from imgcls.training.schedules import Constant, Cosine
from imgcls.training.stages import EarlyStopping, Stage

Plan = Callable[..., Job]
Network = Callable[..., Classifier]

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = blobs(groups=10, per_group=4, size=8)
TRAIN, VAL = np.arange(28), np.arange(28, 40)


def trained(model: Classifier, job: Job, **listeners: Any) -> list[EpochEnd]:
    return fit(model, job, Listeners(**listeners))


def draws(job: Job, epoch: int) -> list[NDArray[np.int64]]:
    return job.phases[0].draws(epoch)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def scripted(monkeypatch: pytest.MonkeyPatch, values: Sequence[dict[str, float]]) -> None:
    """Let the validation of each epoch find the given numbers."""
    rest = iter(values)
    monkeypatch.setattr(loop, "epoch_metrics", lambda *_, **__: {**dict.fromkeys(MONITORS, 0.5), **next(rest)})


def test_a_learnable_set_is_learnt(network: Network, plan: Plan) -> None:
    history = trained(network(), plan(stages=(Stage(epochs=4, lr=0.03),)))
    assert history[-1].train_loss < history[0].train_loss
    assert max(event.val["average_precision"] for event in history) > 0.95


def test_fit_equals_a_plain_torch_loop(network: Network, plan: Plan) -> None:
    model, plain = network(), network()
    job = plan(stages=(Stage(epochs=1, lr=0.01),), schedule=Cosine(), optimizer=Sgd())
    trained(model, job)
    decayed = [p for p in plain.parameters() if p.ndim > 1]
    rest = [p for p in plain.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 1e-4}, {"params": rest}]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    for step, positions in enumerate(draws(job, 0)):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 + math.cos(math.pi * step / 4)) / 2
        optimizer.zero_grad()
        logits = plain(job.batches.images(positions))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(DATA.labels[positions]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, msg=name)


def test_each_epoch_trains_every_record_once(plan: Plan) -> None:
    job = plan()
    for epoch in range(3):
        np.testing.assert_array_equal(np.sort(np.concatenate(draws(job, epoch))), TRAIN)
    assert not np.array_equal(np.concatenate(draws(job, 0)), np.concatenate(draws(job, 1)))


def test_draws_are_positions_in_the_set_not_among_the_training_records(plan: Plan) -> None:
    job = plan(train=VAL, balancer=Balancer(sampler="weighted"))
    assert set(np.concatenate(draws(job, 0))) <= set(VAL.tolist())


def test_the_head_stage_leaves_the_body_bit_equal(network: Network, plan: Plan) -> None:
    model = network(dropout=0.2)
    body = {name: value.clone() for name, value in model.body.state_dict().items()}
    head = {name: value.clone() for name, value in model.head.state_dict().items()}
    trained(model, plan(stages=(Stage(epochs=2, train="head", lr=0.1),)))
    assert equal(model.body.state_dict(), body)
    assert not equal(model.head.state_dict(), head)


def test_the_head_stage_sees_the_features_of_evaluation_mode(network: Network, plan: Plan) -> None:
    modes: list[tuple[bool, bool]] = []
    model = network()
    model.register_forward_hook(lambda *_: modes.append((model.body.training, model.head.training)))
    trained(model, plan(stages=(Stage(epochs=1, train="head"),), augment=to_augment("light")))  # else it is cached
    assert set(modes) == {(False, True), (False, False)}  # steps and validation


def test_all_layers_train_again_after_the_head_stage(network: Network, plan: Plan) -> None:
    model = network()
    body = {name: value.clone() for name, value in model.body.state_dict().items()}
    job = plan(stages=(Stage(epochs=1, train="head"), Stage(epochs=1)), monitor="loss")
    trained(model, job)
    assert all(parameter.requires_grad for parameter in model.parameters())
    found = load_checkpoint(job.folder / "best")
    weights, facts = found.weights, found.facts
    assert (facts["epoch"] == 0) == equal({name: weights[f"body.{name}"] for name in body}, body)


def test_the_best_epoch_is_put_back_when_later_ones_are_worse(network: Network, plan: Plan) -> None:
    model = network()
    stages = (Stage(epochs=3, lr=0.03), Stage(epochs=2, lr=30.0, optimizer=Sgd()))
    job = plan(stages=stages, monitor="loss")
    history = trained(model, job)
    best = min(history, key=lambda event: event.val["loss"])
    assert best.stage == 0
    assert history[-1].val["loss"] > best.val["loss"] + 0.1
    logits = forward(model, job.batches, VAL, batch_size=64)
    values = epoch_metrics(logits, torch.from_numpy(DATA.labels[VAL]), positive=1)
    assert values["loss"] == pytest.approx(best.val["loss"], abs=1e-6)
    assert load_checkpoint(job.folder / "best").facts["epoch"] == best.epoch


def test_events_mark_each_epoch_that_was_best_so_far(
    network: Network, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [{"roc_auc": value} for value in (0.6, 0.5, 0.7, 0.7)])
    job = plan(stages=(Stage(epochs=4),), monitor="roc_auc")
    history = trained(network(), job)
    assert [event.best for event in history] == [True, False, True, False]
    assert load_checkpoint(job.folder / "best").facts["epoch"] == 2


def test_ties_go_to_the_lower_loss_and_then_to_the_higher_accuracy(
    network: Network, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [{"loss": 0.5, "accuracy": 0.9}, {"loss": 0.4, "accuracy": 0.7}, {"loss": 0.4, "accuracy": 0.8}]
    scripted(monkeypatch, [*values, {"loss": 0.4, "accuracy": 0.8}])
    history = trained(network(), plan(stages=(Stage(epochs=4),)))
    assert [event.best for event in history] == [True, True, True, False]


def test_a_metric_that_is_nan_never_wins(network: Network, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [{"roc_auc": value} for value in (math.nan, 0.1, math.nan)])
    job = plan(stages=(Stage(epochs=3),), monitor="roc_auc")
    history = trained(network(), job)
    assert [event.best for event in history] == [True, True, False]
    facts = load_checkpoint(job.folder / "best").facts
    assert facts["epoch"] == 1
    assert facts["values"]["roc_auc"] == 0.1


def test_without_any_value_of_the_metric_the_loss_decides(
    network: Network, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [{"roc_auc": math.nan, "loss": value} for value in (0.6, 0.3, 0.5)])
    job = plan(stages=(Stage(epochs=3),), monitor="roc_auc")
    trained(network(), job)
    assert load_checkpoint(job.folder / "best").facts["epoch"] == 1


@pytest.mark.parametrize(
    ("monitor", "values", "epochs"),
    [
        ("roc_auc", (0.5, 0.6, 0.6, 0.6, 0.9), 4),  # the second and third bring nothing
        ("roc_auc", (0.5, 0.6, 0.609, 0.605, 0.9), 4),  # 0.009 is less than min_delta
        ("roc_auc", (0.5, 0.6, 0.608, 0.616, 0.9), 5),  # but two of 0.008 are more
        ("roc_auc", (0.5, 0.6, 0.5, 0.7, 0.8), 5),
        ("loss", (0.5, 0.6, 0.7, 0.1, 0.1), 3),
    ],
)
def test_a_stage_ends_early_when_nothing_gets_better(
    network: Network, monitor: str, values: Sequence[float], epochs: int, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [{monitor: value} for value in values])
    stopping = EarlyStopping(patience=2, min_delta=0.01)
    history = trained(network(), plan(stages=(Stage(epochs=5),), monitor=monitor, early_stopping=stopping))
    assert len(history) == epochs


def test_early_stopping_ends_a_stage_and_not_the_training(
    network: Network, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [{"roc_auc": value} for value in (0.5, 0.4, 0.9, 0.8)])
    stages = (Stage(epochs=3, train="head"), Stage(epochs=3))
    history = trained(network(), plan(stages=stages, monitor="roc_auc", early_stopping=EarlyStopping(patience=1)))
    assert [(event.epoch, event.stage) for event in history] == [(0, 0), (1, 0), (2, 1), (3, 1)]


def test_a_loss_that_is_not_finite_names_epoch_step_rate_and_records(network: Network, plan: Plan) -> None:
    model = network()
    with torch.no_grad():
        next(model.head.parameters()).fill_(math.nan)
    job = plan(stages=(Stage(epochs=1, lr=0.02),))
    with pytest.raises(TrainingError) as caught:
        trained(model, job)
    first = draws(job, 0)[0]
    for part in ("epoch 0", "step 0", "lr 0.02", "got nan", *DATA.ids[first[:5]]):
        assert part in str(caught.value)


def test_weights_that_burst_in_the_last_step_are_no_best_checkpoint(network: Network, plan: Plan) -> None:
    stages = (Stage(epochs=1, lr=1e30, optimizer=Sgd(momentum=0.0)),)
    job = plan(stages=stages, batch_size=28)
    with pytest.raises(TrainingError, match=r"validation records must be finite, .* fold 0; lower 'lr'"):
        trained(network(), job)
    assert not (job.folder / "best").exists()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(network: Network, plan: Plan) -> None:
    states = []
    for seed in (5, 5, 6):
        model = network(dropout=0.3)
        trained(model, plan(fold_seeds=(seed,), stages=(Stage(epochs=1, train="head"), Stage(epochs=1))))
        states.append(model.state_dict())
    assert equal(states[0], states[1])
    assert not equal(states[0], states[2])


def test_dropout_does_not_depend_on_the_global_random_state(network: Network, plan: Plan) -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = network(dropout=0.3)
        trained(model, plan())
        states.append(model.state_dict())
    assert equal(*states)


def test_the_global_random_state_is_left_alone(network: Network, plan: Plan) -> None:
    model, job = network(dropout=0.3), plan()
    with chance_untouched(model):
        trained(model, job)


def test_class_weights_are_in_the_training_loss_alone(network: Network, plan: Plan) -> None:
    frozen = (Stage(epochs=1, lr=1e-12),)
    balancers = (Balancer(), Balancer(class_weights={"a": 1.9, "b": 0.1}))
    plain, weighted = (trained(network(), plan(balancer=one, stages=frozen))[0] for one in balancers)
    assert weighted.train_loss != pytest.approx(plain.train_loss, abs=1e-3)
    assert weighted.val["loss"] == pytest.approx(plain.val["loss"], abs=1e-6)


def test_the_training_loss_is_the_mean_over_records(network: Network, plan: Plan) -> None:
    model = network()
    job = plan(stages=(Stage(epochs=1, lr=1e-12, train="head"),), batch_size=9)
    event = trained(model, job)[0]
    logits = forward(model, job.batches, TRAIN, batch_size=64)
    expected = training_loss(logits, torch.from_numpy(DATA.labels[TRAIN]), loss="cross-entropy", weights=None)
    assert event.train_loss == pytest.approx(expected.item(), abs=1e-5)


def test_a_step_is_told_after_each_step_and_an_epoch_after_each_epoch(network: Network, plan: Plan) -> None:
    job = plan()
    told: list[Any] = []
    history = trained(network(), job, step=lambda _: told.append("step"), epoch=told.append)
    assert told == [*["step"] * 4, history[0], *["step"] * 4, history[1]]


def test_each_stage_has_a_learning_rate_course_of_its_own(network: Network, plan: Plan) -> None:
    stages = (Stage(epochs=2, lr=0.1, schedule=Cosine()), Stage(epochs=1, lr=0.01, schedule=Constant()))
    history = trained(network(), plan(stages=stages))
    last_steps = [0.1 * (1 + math.cos(math.pi * step / 8)) / 2 for step in (3, 7)]
    assert [event.lr for event in history] == pytest.approx([*last_steps, 0.01])
