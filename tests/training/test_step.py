import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgcls.balancing.balancer import Balancer
from imgcls.core.errors import TrainingError
from imgcls.models.base import Classifier
from imgcls.runtime.checkpoints import load_checkpoint
from imgcls.training import step
from imgcls.training.averaging import Ema
from imgcls.training.events import StepEnd
from imgcls.training.job import Job
from imgcls.training.loop import Listeners, fit
from imgcls.training.optimizers import AdamW, Sgd
from imgcls.training.stages import NonFinite, Snapshots, Stage

Plan = Callable[..., Job]
Network = Callable[..., Classifier]

pytestmark = pytest.mark.usefixtures("one_thread")

ONE = (Stage(epochs=1, lr=0.05),)


@pytest.fixture
def plain(network: Network) -> Callable[[], Classifier]:
    """Make a network without batch norm, whose result does not depend on how a batch is cut."""

    def make() -> Classifier:
        model = network()
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                parent = model.get_submodule(name.rpartition(".")[0])
                setattr(parent, name.rpartition(".")[2], nn.Identity())
        return model

    return make


def train(model: Classifier, job: Job, **listeners: Any) -> list[StepEnd]:
    steps: list[StepEnd] = []
    fit(model, job, Listeners(step=steps.append, **listeners))
    return steps


def close(one: nn.Module, other: nn.Module, atol: float = 1e-6) -> None:
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()), rtol=0, atol=atol)


def norm_of(model: nn.Module) -> float:
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return float(torch.linalg.vector_norm(torch.cat([grad.flatten() for grad in grads])))


# A batch in parts


@pytest.mark.parametrize("balancer", [Balancer(), Balancer(class_weights={"a": 1.8, "b": 0.2})])
@pytest.mark.parametrize(("batch_size", "parts"), [(28, 4), (14, 3), (9, 2), (5, 16)])  # 28 records
def test_a_batch_in_parts_trains_like_a_whole_one(
    batch_size: int, parts: int, balancer: Balancer, plan: Plan, plain: Callable[[], Classifier]
) -> None:
    whole, cut = plain(), plain()
    options = {"batch_size": batch_size, "stages": ONE, "balancer": balancer, "optimizer": Sgd(), "monitor": "loss"}
    expected = train(whole, plan(**options))
    found = train(cut, plan(**options, parts=parts))
    close(cut, whole)
    for one, other in zip(found, expected, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-6)
        assert one.grad_norm == pytest.approx(other.grad_norm, abs=1e-6)


@pytest.mark.parametrize(("size", "parts", "sizes"), [(32, 4, [8] * 4), (9, 4, [2, 2, 3, 2]), (3, 4, [3]), (0, 4, [])])
def test_no_part_is_a_single_record(size: int, parts: int, sizes: list[int]) -> None:
    found = step._parts(size, parts)
    assert sorted(part.stop - part.start for part in found) == sorted(sizes)
    assert [number for part in found for number in range(size)[part]] == list(range(size))


# Clipping


def test_a_gradient_is_clipped_as_torch_does(plan: Plan, plain: Callable[[], Classifier]) -> None:
    model, reference = plain(), plain()
    job = plan(batch_size=28, stages=ONE, optimizer=Sgd(momentum=0.0, weight_decay=0.0), clip_grad=0.002)
    found = train(model, job)
    positions = job.phases[0].draws(0)[0]
    logits = reference(job.batches.images(positions))
    nn.functional.cross_entropy(logits, torch.from_numpy(job.targets[positions])).backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.002)
    torch.optim.SGD(reference.parameters(), lr=0.05).step()
    close(model, reference)
    assert found[0].grad_norm == pytest.approx(float(norm), abs=1e-6)
    assert norm_of(reference) == pytest.approx(0.002, abs=1e-6)


# Memory


class Small:
    """A device that has no memory for more than so many images at a time."""

    def __init__(self, limit: int) -> None:
        self.limit, self.sizes = limit, list[int]()

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> None:
        if module.training:
            self.sizes.append(len(args[0]))
            if len(args[0]) > self.limit:
                raise torch.OutOfMemoryError("CUDA out of memory")


def test_where_memory_is_short_parts_get_smaller_and_nothing_else_changes(
    plan: Plan, plain: Callable[[], Classifier], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")
    whole, model, small = plain(), plain(), Small(4)
    model.register_forward_pre_hook(small)
    options = {"batch_size": 14, "stages": ONE, "optimizer": Sgd()}
    expected = train(whole, plan(**options))
    found = train(model, plan(**options))
    close(model, whole)
    assert [event.loss for event in found] == pytest.approx([event.loss for event in expected], abs=1e-6)
    assert small.sizes[:3] == [14, 7, 4]  # whole, in two, in four parts
    assert max(small.sizes[3:]) <= 4  # from then on
    assert "each batch goes through the network in 4 parts from now on" in capsys.readouterr().err


def test_attempts_that_memory_ended_leave_nothing_in_batch_norm(plan: Plan, network: Network) -> None:
    model = network()
    model.head.register_forward_pre_hook(Small(4))  # batch norm has run by then
    steps = len(train(model, plan(batch_size=14, stages=ONE)))
    counts = {int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {4 * steps}


def test_the_parts_that_memory_needs_are_remembered(plan: Plan, plain: Callable[[], Classifier]) -> None:
    job = plan(batch_size=14, stages=ONE)
    model = plain()
    model.register_forward_pre_hook(Small(4))
    train(model, job)
    state = load_checkpoint(job.folder / "last").state
    assert state is not None
    assert state["plain"]["parts"] == 4


def test_without_memory_for_two_records_training_ends_with_advice(plan: Plan, network: Network) -> None:
    model = network()
    model.register_forward_pre_hook(Small(1))
    with pytest.raises(TrainingError, match=r"must fit into the memory of 'cpu', got too little .* smaller images"):
        train(model, plan())


# Losses that are not finite


class Bursting:
    """Makes the output of some training steps infinite on the way, as an overflow does."""

    def __init__(self, *calls: int) -> None:
        self.calls, self.count = calls, -1

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        if not module.training:
            return None
        self.count += 1
        return (args[0] * math.inf,) if self.count in self.calls else None


def bursting(network: Network, *calls: int) -> Classifier:
    model = network()
    model.body.register_forward_pre_hook(Bursting(*calls))
    return model


def check_finite(job: Job) -> None:
    """Look into every tensor of every checkpoint."""
    for folder in {manifest.parent for manifest in job.folder.rglob("*.json")}:
        found = load_checkpoint(folder)
        values: list[Any] = [found.weights, found.state]
        while values:
            value = values.pop()
            if isinstance(value, Tensor):
                assert value.isfinite().all()
            elif isinstance(value, dict):
                values += value.values()
            elif isinstance(value, list | tuple):
                values += value


def test_a_burst_ends_training_and_names_the_place(plan: Plan, network: Network) -> None:
    job = plan(stages=(Stage(epochs=2, lr=0.05),))
    with pytest.raises(TrainingError) as caught:
        train(bursting(network, 6), job)
    ids: NDArray[np.str_] = job.ids[job.phases[0].draws(1)[2][:5]]
    for part in ("the loss must be finite, got nan", "epoch 1", "step 2", "lr 0.05", *ids):
        assert part in str(caught.value)
    check_finite(job)
    assert load_checkpoint(job.folder / "last").facts["step"] == 4


def test_a_burst_can_be_left_out_and_leaves_no_trace(plan: Plan, network: Network) -> None:
    options = {"nonfinite": NonFinite(policy="skip", limit=2), "stages": ONE, "ema": Ema(), "snapshots": Snapshots()}
    model, job = bursting(network, 1, 2), plan(**options)
    steps = train(model, job)
    assert [math.isfinite(event.loss) for event in steps] == [True, False, False, True]
    check_finite(job)
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_more_bursts_than_the_limit_end_training(plan: Plan, network: Network) -> None:
    job = plan(nonfinite=NonFinite(policy="skip", limit=2))
    with pytest.raises(TrainingError, match="must be finite"):
        train(bursting(network, 1, 2, 3), job)


@pytest.mark.parametrize("optimizer", [Sgd(), AdamW()])
def test_rolling_back_goes_on_from_the_checkpoint_with_half_of_the_rate(
    optimizer: Any, plan: Plan, network: Network
) -> None:
    job = plan(
        nonfinite=NonFinite(policy="rollback"), stages=(Stage(epochs=2, lr=0.04),), optimizer=optimizer, average=2
    )
    steps = train(bursting(network, 1, 7), job)
    assert [event.step for event in steps] == [0, *range(4), 4, *range(4, 8)]
    rates = [event.lr for event in steps]
    assert rates[0] == 0.04
    assert rates[-1] == pytest.approx(0.01)
    assert sorted({*rates}) == pytest.approx([0.01, 0.02, 0.04])
    assert load_checkpoint(job.folder / "last").facts["step"] == 8
    check_finite(job)


def test_rolling_back_has_a_limit(plan: Plan, network: Network) -> None:
    job = plan(nonfinite=NonFinite(policy="rollback", limit=2))
    with pytest.raises(TrainingError, match="must be finite"):
        train(bursting(network, 1, 2, 3), job)


def test_rolling_back_never_forgets_a_validation(plan: Plan, network: Network) -> None:
    """What history calls best is what the best checkpoint holds."""
    job = plan(nonfinite=NonFinite(policy="rollback"), validate_every=1, stages=(Stage(epochs=2, lr=0.04),))
    model = bursting(network, 2, 6)
    history = fit(model, job, Listeners())
    assert [event.step for event in history] == list(range(1, 9))
    best = [event for event in history if event.best][-1]
    assert load_checkpoint(job.folder / "best").facts["step"] == best.step


def test_weights_of_classes_are_those_of_the_whole_epoch_whatever_is_in_a_batch(plan: Plan) -> None:
    weights = {"a": 0.5, "b": 3.5}
    job = plan(stages=ONE, balancer=Balancer(class_weights=weights), batch_size=4)
    criterion, draws = job.phases[0].criterion, job.phases[0].draws(0)
    logits, parts = torch.zeros(4, 2), []
    for draw in draws:
        losses, own = criterion.terms(logits[: len(draw)], torch.from_numpy(job.targets[draw]), draw)
        parts.append((losses * own).sum() / len(draw))
    # Those that are used have a mean of 1 over the classes.
    shares = torch.tensor([weights["ab"[label]] for label in job.targets[np.concatenate(draws)]])
    assert criterion.mean_weight == pytest.approx(shares.mean() / 2)
    assert torch.stack(parts).mean().item() == pytest.approx(math.log(2), rel=1e-6)  # equal losses, so their mean
