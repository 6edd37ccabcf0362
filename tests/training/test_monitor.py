import math

import numpy as np
import pytest
import torch

from imgcls.core.errors import ConfigError
from imgcls.evaluation.metrics import METRICS, measure
from imgcls.evaluation.predictions import probabilities
from imgcls.evaluation.weighted import Cases
from imgcls.training.monitor import MONITORS, epoch_metrics, monitor_direction


def same_as_evaluation(logits: torch.Tensor, labels: torch.Tensor, positive: int | None) -> None:
    found = epoch_metrics(logits, labels, positive=positive)
    cases = Cases(labels=labels.numpy(), probs=probabilities(logits.numpy()), positive=positive or 0)
    assert found.keys() == MONITORS.keys()
    for name, value in found.items():
        assert value == pytest.approx(measure(name, cases)[0], abs=1e-6, nan_ok=True), name


def drawn(num: int, outputs: int, *, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, outputs, generator=generator).mul_(2).round(decimals=1)  # with ties
    return logits, torch.randint(0, classes, (num,), generator=generator)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("num", [7, 3000])
def test_metrics_of_two_classes_equal_those_of_evaluation(outputs: int, positive: int, num: int) -> None:
    same_as_evaluation(*drawn(num, outputs, classes=2), positive)


@pytest.mark.parametrize("num", [12, 3000])
def test_metrics_of_many_classes_equal_those_of_evaluation(num: int) -> None:
    same_as_evaluation(*drawn(num, 4, classes=4), None)


def test_metrics_of_certain_answers_equal_those_of_evaluation() -> None:
    logits, labels = drawn(50, 2, classes=2)
    same_as_evaluation(logits * 1e6, labels, 1)


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_metrics_that_need_an_absent_class_are_nan_as_in_evaluation(outputs: int) -> None:
    logits, labels = drawn(20, outputs, classes=1)
    same_as_evaluation(logits, labels, 1 if outputs < 3 else None)
    found = epoch_metrics(logits, labels, positive=1 if outputs < 3 else None)
    assert {name for name, value in found.items() if math.isnan(value)} == MONITORS.keys() - {"loss", "accuracy"}


def test_a_perfect_ranking_has_all_metrics_at_one() -> None:
    found = epoch_metrics(torch.tensor([[9.0, 0], [0, 9], [0, 8]]), torch.tensor([0, 1, 1]), positive=1)
    assert {name: value for name, value in found.items() if name != "loss"} == dict.fromkeys(
        MONITORS.keys() - {"loss"}, 1.0
    )


def test_directions_agree_with_evaluation() -> None:
    assert {name: monitor_direction(name) for name in MONITORS} == {name: METRICS[name].direction for name in MONITORS}
    assert set(MONITORS) <= set(METRICS)


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'monitor' must .* got 'roc_uac'; did you mean 'roc_auc'"):
        monitor_direction("roc_uac")


def test_one_logit_speaks_for_class_one() -> None:
    found = epoch_metrics(torch.tensor([[3.0], [-3.0]]), torch.tensor([1, 0]), positive=0)
    assert found["accuracy"] == 1.0
    assert found["loss"] == pytest.approx(np.log1p(np.exp(-3.0)))
