import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from sklearn.metrics import f1_score

from imgcls.core.errors import ConfigError
from imgcls.evaluation.metrics import METRICS, measure
from imgcls.evaluation.predictions import probabilities
from imgcls.evaluation.weighted import Cases
from imgcls.training.monitor import MONITORS, OPTIMISTIC, epoch_metrics, monitor_direction, monitor_name

BEST = set(OPTIMISTIC.values())


def same_as_evaluation(logits: torch.Tensor, labels: torch.Tensor, positive: int | None) -> None:
    found = epoch_metrics(logits, labels, positive=positive)
    cases = Cases(labels=labels.numpy(), probs=probabilities(logits.numpy()), positive=positive or 0)
    assert found.keys() == (MONITORS.keys() if positive is not None else MONITORS.keys() - BEST)
    for name in found.keys() - BEST:
        assert found[name] == pytest.approx(measure(name, cases)[0], abs=1e-6, nan_ok=True), name


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
    assert {name for name, value in found.items() if math.isnan(value)} == found.keys() - {"loss", "accuracy"}


def test_a_perfect_ranking_has_all_metrics_at_one() -> None:
    found = epoch_metrics(torch.tensor([[9.0, 0], [0, 9], [0, 8]]), torch.tensor([0, 1, 1]), positive=1)
    assert found["hter_best"] == 0.0
    assert {found[name] for name in found.keys() - {"loss", "hter_best"}} == {1.0}


def test_directions_agree_with_evaluation() -> None:
    names = MONITORS.keys() - BEST
    assert {name: monitor_direction(name) for name in names} == {name: METRICS[name].direction for name in names}
    assert (monitor_direction("hter"), monitor_direction("f1")) == ("min", "max")


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'monitor' must .* got 'roc_uac'; did you mean 'roc_auc'"):
        monitor_direction("roc_uac")


@pytest.mark.parametrize("name", ["sensitivity", "specificity", "ppv", "npv"])
def test_a_metric_that_a_threshold_makes_perfect_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"that a threshold alone cannot make perfect, got '{name}'; take 'roc_auc'"):
        monitor_direction(name)


def test_metrics_at_the_best_threshold_are_called_so() -> None:
    assert [monitor_name(name) for name in ("hter", "f1", "f1_best", "loss")] == [
        *("hter_best", "f1_best", "f1_best", "loss")
    ]


@pytest.mark.parametrize("positive", [0, 1])
def test_the_best_threshold_is_the_best_of_all_that_could_be_chosen(positive: int) -> None:
    logits, labels = drawn(60, 2, classes=2, seed=3)
    scores, truth = probabilities(logits.numpy())[:, positive], labels.numpy() == positive
    cuts = [*np.unique(scores), np.inf]
    errors = [((scores >= cut)[~truth].mean() + (scores < cut)[truth].mean()) / 2 for cut in cuts]
    found = epoch_metrics(logits, labels, positive=positive)
    assert found["hter_best"] == pytest.approx(min(errors), abs=1e-6)
    assert found["f1_best"] == pytest.approx(max(f1_score(truth, scores >= cut) for cut in cuts), abs=1e-6)


# Several labels


def marked(num: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(num, 4, generator=generator) < torch.tensor([0.5, 0.3, 0.8, 0.1])).long()
    logits = labels + torch.randn(num, 4, generator=generator).mul_(2).round(decimals=1)
    return logits, labels


@pytest.mark.parametrize("num", [30, 3000])
def test_metrics_of_several_labels_equal_those_of_evaluation(num: int) -> None:
    logits, labels = marked(num)
    found = epoch_metrics(logits, labels, positive=None)
    cases = Cases(labels=labels.numpy(), probs=probabilities(logits.numpy(), multilabel=True))
    assert found == {name: pytest.approx(measure(name, cases)[0], abs=1e-6) for name in found}
    assert found.keys() == MONITORS.keys() - BEST


def test_metrics_of_several_labels_are_those_of_scikit_learn() -> None:
    logits, labels = marked(300)
    found = epoch_metrics(logits, labels, positive=None)
    truth, scores = labels.numpy(), logits.double().sigmoid().numpy()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    assert found["loss"] == pytest.approx(float(loss), abs=1e-6)
    assert found["accuracy"] == pytest.approx(1 - sk.hamming_loss(truth, scores >= 0.5), abs=1e-6)
    assert found["f1_macro"] == pytest.approx(f1_score(truth, scores >= 0.5, average="macro"), abs=1e-6)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, scores), abs=1e-6)
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(truth, scores), abs=1e-6)


def test_labels_that_all_or_none_have_are_left_out_of_means() -> None:
    logits, labels = marked(80)
    labels[:, 0], labels[:, 3] = 1, 0
    found, alone = (epoch_metrics(logits[:, at], labels[:, at], positive=None) for at in (slice(4), slice(1, 3)))
    assert all(found[name] == alone[name] for name in ("roc_auc", "average_precision", "balanced_accuracy"))
    only = epoch_metrics(logits[:, [0, 3]], labels[:, [0, 3]], positive=None)
    assert {name for name, value in only.items() if math.isnan(value)} == {
        *("balanced_accuracy", "roc_auc", "average_precision")
    }
    assert only["f1_macro"] == pytest.approx(f1_score(labels[:, 0], logits[:, 0] >= 0))


def test_one_logit_speaks_for_class_one() -> None:
    found = epoch_metrics(torch.tensor([[3.0], [-3.0]]), torch.tensor([1, 0]), positive=0)
    assert found["accuracy"] == 1.0
    assert found["loss"] == pytest.approx(np.log1p(np.exp(-3.0)))
