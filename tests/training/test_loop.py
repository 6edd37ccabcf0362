import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imgcls.balancing.base import Records
from imgcls.balancing.samplers import Uniform, Weighted
from imgcls.core.errors import TrainingError
from imgcls.data.spec import ImageSpec
from imgcls.data.store import open_store
from imgcls.models.base import Classifier
from imgcls.models.head import Head
from imgcls.models.small_cnn import SmallCnn
from imgcls.runtime.batches import Batches, forward
from imgcls.runtime.checkpoints import load_checkpoint
from imgcls.runtime.device import Runtime
from imgcls.runtime.sources import Resident
from imgcls.testing import blobs
from imgcls.testing.values import chance_untouched
from imgcls.training import loop
from imgcls.training.loop import EpochEnd, Job, fit
from imgcls.training.losses import training_loss
from imgcls.training.monitor import MONITORS, epoch_metrics
from imgcls.training.optim import AdamW, Constant, Cosine, Sgd
from imgcls.training.stages import EarlyStopping, Stage

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = blobs(groups=10, per_group=4, size=8)
TRAIN, VAL = np.arange(28), np.arange(28, 40)


def network(seed: int = 0, *, outputs: int = 2, dropout: float = 0.0) -> Classifier:
    head = Head(depth=2, dropout=dropout)
    return SmallCnn(base=4, depth=2).build(outputs, in_channels=1, image_size=(8, 8), head=head, seed=seed)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    spec = ImageSpec(size=8, channels=1, mean=0.5, std=0.5)
    return Job(
        batches=Batches.over(Resident.over(open_store(DATA, spec)), Runtime()),
        targets=DATA.labels,
        train=TRAIN,
        val=VAL,
        records=Records(labels=DATA.labels[TRAIN], groups=None, num_classes=2),
        sampler=Uniform(),
        loss="cross-entropy",
        class_weights=None,
        stages=(Stage(epochs=2, lr=0.01),),
        optimizer=AdamW(),
        schedule=Constant(),
        monitor="average_precision",
        early_stopping=None,
        batch_size=8,
        positive=1,
        seed=5,
        folder=tmp_path,
        ids=DATA.ids,
    )


def trained(model: Classifier, job: Job, **changes: Any) -> list[EpochEnd]:
    return fit(model, attrs.evolve(job, **changes), on_step=lambda: None, on_epoch=lambda _: None)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def scripted(monkeypatch: pytest.MonkeyPatch, values: Sequence[dict[str, float]]) -> None:
    """Let the validation of each epoch find the given numbers."""
    rest = iter(values)
    monkeypatch.setattr(loop, "epoch_metrics", lambda *_, **__: {**dict.fromkeys(MONITORS, 0.5), **next(rest)})


def test_a_learnable_set_is_learnt(job: Job) -> None:
    history = trained(network(), job, stages=(Stage(epochs=4, lr=0.03),))
    assert history[-1].train_loss < history[0].train_loss
    assert max(event.val["average_precision"] for event in history) > 0.95


def test_fit_equals_a_plain_torch_loop(job: Job) -> None:
    model, plain = network(), network()
    trained(model, job, stages=(Stage(epochs=1, lr=0.01),), schedule=Cosine(), optimizer=Sgd())
    decayed = [p for p in plain.parameters() if p.ndim > 1]
    rest = [p for p in plain.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 1e-4}, {"params": rest}]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    for step, positions in enumerate(job.draws(0)):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 + math.cos(math.pi * step / 4)) / 2
        optimizer.zero_grad()
        logits = plain(job.batches.images(positions))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(DATA.labels[positions]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, msg=name)


def test_each_epoch_trains_every_record_once(job: Job) -> None:
    for epoch in range(3):
        np.testing.assert_array_equal(np.sort(np.concatenate(job.draws(epoch))), TRAIN)
    assert not np.array_equal(np.concatenate(job.draws(0)), np.concatenate(job.draws(1)))


def test_draws_are_positions_in_the_set_not_among_the_training_records(job: Job) -> None:
    later = attrs.evolve(job, train=VAL, records=Records(labels=DATA.labels[VAL], groups=None, num_classes=2))
    assert set(np.concatenate(attrs.evolve(later, sampler=Weighted()).draws(0))) <= set(VAL.tolist())


def test_the_head_stage_leaves_the_body_bit_equal(job: Job) -> None:
    model = network(dropout=0.2)
    body = {name: value.clone() for name, value in model.body.state_dict().items()}
    head = {name: value.clone() for name, value in model.head.state_dict().items()}
    trained(model, job, stages=(Stage(epochs=2, train="head", lr=0.1),))
    assert equal(model.body.state_dict(), body)
    assert not equal(model.head.state_dict(), head)


def test_the_head_stage_sees_the_features_of_evaluation_mode(job: Job) -> None:
    modes: list[tuple[bool, bool]] = []
    model = network()
    model.register_forward_hook(lambda *_: modes.append((model.body.training, model.head.training)))
    trained(model, job, stages=(Stage(epochs=1, train="head"),))
    assert set(modes) == {(False, True), (False, False)}  # steps and validation


def test_all_layers_train_again_after_the_head_stage(job: Job) -> None:
    model = network()
    body = {name: value.clone() for name, value in model.body.state_dict().items()}
    trained(model, job, stages=(Stage(epochs=1, train="head"), Stage(epochs=1)), monitor="loss")
    assert all(parameter.requires_grad for parameter in model.parameters())
    weights, facts = load_checkpoint(job.folder / "best")
    assert (facts["epoch"] == 0) == equal({name: weights[f"body.{name}"] for name in body}, body)


def test_the_best_epoch_is_put_back_when_later_ones_are_worse(job: Job) -> None:
    model = network()
    stages = (Stage(epochs=3, lr=0.03), Stage(epochs=2, lr=30.0, optimizer=Sgd()))
    history = trained(model, job, stages=stages, monitor="loss")
    best = min(history, key=lambda event: event.val["loss"])
    assert best.stage == 0
    assert history[-1].val["loss"] > best.val["loss"] + 0.1
    logits = forward(model, job.batches, VAL, batch_size=64)
    values = epoch_metrics(logits, torch.from_numpy(DATA.labels[VAL]), positive=1)
    assert values["loss"] == pytest.approx(best.val["loss"], abs=1e-6)
    assert load_checkpoint(job.folder / "best")[1]["epoch"] == best.epoch


def test_events_mark_each_epoch_that_was_best_so_far(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [{"roc_auc": value} for value in (0.6, 0.5, 0.7, 0.7)])
    history = trained(network(), job, stages=(Stage(epochs=4),), monitor="roc_auc")
    assert [event.best for event in history] == [True, False, True, False]
    assert load_checkpoint(job.folder / "best")[1]["epoch"] == 2


def test_ties_go_to_the_lower_loss_and_then_to_the_higher_accuracy(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [{"loss": 0.5, "accuracy": 0.9}, {"loss": 0.4, "accuracy": 0.7}, {"loss": 0.4, "accuracy": 0.8}]
    scripted(monkeypatch, [*values, {"loss": 0.4, "accuracy": 0.8}])
    history = trained(network(), job, stages=(Stage(epochs=4),))
    assert [event.best for event in history] == [True, True, True, False]


def test_a_metric_that_is_nan_never_wins(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [{"roc_auc": value} for value in (math.nan, 0.1, math.nan)])
    history = trained(network(), job, stages=(Stage(epochs=3),), monitor="roc_auc")
    assert [event.best for event in history] == [True, True, False]
    facts = load_checkpoint(job.folder / "best")[1]
    assert facts["epoch"] == 1
    assert facts["values"]["roc_auc"] == 0.1


def test_without_any_value_of_the_metric_the_loss_decides(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [{"roc_auc": math.nan, "loss": value} for value in (0.6, 0.3, 0.5)])
    trained(network(), job, stages=(Stage(epochs=3),), monitor="roc_auc")
    assert load_checkpoint(job.folder / "best")[1]["epoch"] == 1


@pytest.mark.parametrize(
    ("monitor", "values", "epochs"),
    [
        ("roc_auc", (0.5, 0.6, 0.6, 0.6, 0.9), 4),  # the second and third bring nothing
        ("roc_auc", (0.5, 0.6, 0.609, 0.605, 0.9), 4),  # 0.009 is less than min_delta
        ("roc_auc", (0.5, 0.6, 0.5, 0.7, 0.8), 5),
        ("loss", (0.5, 0.6, 0.7, 0.1, 0.1), 3),
    ],
)
def test_a_stage_ends_early_when_nothing_gets_better(
    monitor: str, values: Sequence[float], epochs: int, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [{monitor: value} for value in values])
    stopping = EarlyStopping(patience=2, min_delta=0.01)
    history = trained(network(), job, stages=(Stage(epochs=5),), monitor=monitor, early_stopping=stopping)
    assert len(history) == epochs


def test_early_stopping_ends_a_stage_and_not_the_training(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [{"roc_auc": value} for value in (0.5, 0.4, 0.9, 0.8)])
    stages = (Stage(epochs=3, train="head"), Stage(epochs=3))
    history = trained(network(), job, stages=stages, monitor="roc_auc", early_stopping=EarlyStopping(patience=1))
    assert [(event.epoch, event.stage) for event in history] == [(0, 0), (1, 0), (2, 1), (3, 1)]


def test_a_loss_that_is_not_finite_names_epoch_step_rate_and_records(job: Job) -> None:
    model = network()
    with torch.no_grad():
        next(model.head.parameters()).fill_(math.nan)
    with pytest.raises(TrainingError) as caught:
        trained(model, job, stages=(Stage(epochs=1, lr=0.02),))
    first = job.draws(0)[0]
    for part in ("epoch 0", "step 0", "lr 0.02", "got nan", *DATA.ids[first[:5]]):
        assert part in str(caught.value)


def test_weights_that_burst_in_the_last_step_are_no_best_checkpoint(job: Job) -> None:
    stages = (Stage(epochs=1, lr=1e30, optimizer=Sgd(momentum=0.0)),)
    with pytest.raises(TrainingError, match=r"validation records must be finite, .* epoch 0; lower 'lr'"):
        trained(network(), job, stages=stages, batch_size=28)
    assert not (job.folder / "best").exists()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(job: Job) -> None:
    states = []
    for seed in (5, 5, 6):
        model = network(dropout=0.3)
        trained(model, job, seed=seed, stages=(Stage(epochs=1, train="head"), Stage(epochs=1)))
        states.append(model.state_dict())
    assert equal(states[0], states[1])
    assert not equal(states[0], states[2])


def test_dropout_does_not_depend_on_the_global_random_state(job: Job) -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = network(dropout=0.3)
        trained(model, job)
        states.append(model.state_dict())
    assert equal(*states)


def test_the_global_random_state_is_left_alone(job: Job) -> None:
    model = network(dropout=0.3)
    with chance_untouched(job):
        trained(model, job)


def test_class_weights_are_in_the_training_loss_alone(job: Job) -> None:
    weights = torch.tensor([1.9, 0.1])
    frozen = (Stage(epochs=1, lr=1e-12),)
    plain, weighted = (trained(network(), job, class_weights=w, stages=frozen)[0] for w in (None, weights))
    assert weighted.train_loss != pytest.approx(plain.train_loss, abs=1e-3)
    assert weighted.val["loss"] == pytest.approx(plain.val["loss"], abs=1e-6)


def test_the_training_loss_is_the_mean_over_records(job: Job) -> None:
    model = network()
    event = trained(model, job, stages=(Stage(epochs=1, lr=1e-12, train="head"),), batch_size=9)[0]
    logits = forward(model, job.batches, TRAIN, batch_size=64)
    expected = training_loss(logits, torch.from_numpy(DATA.labels[TRAIN]), loss="cross-entropy", weights=None)
    assert event.train_loss == pytest.approx(expected.item(), abs=1e-5)


def test_a_step_is_told_after_each_step_and_an_epoch_after_each_epoch(job: Job) -> None:
    told: list[Any] = []
    told_step: Callable[[], None] = lambda: told.append("step")  # noqa: E731
    history = fit(network(), job, on_step=told_step, on_epoch=told.append)
    assert told == [*["step"] * 4, history[0], *["step"] * 4, history[1]]


def test_each_stage_has_a_learning_rate_course_of_its_own(job: Job) -> None:
    stages = (Stage(epochs=2, lr=0.1, schedule=Cosine()), Stage(epochs=1, lr=0.01, schedule=Constant()))
    history = trained(network(), job, stages=stages)
    last_steps = [0.1 * (1 + math.cos(math.pi * step / 8)) / 2 for step in (3, 7)]
    assert [event.lr for event in history] == pytest.approx([*last_steps, 0.01])
