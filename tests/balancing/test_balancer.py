from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgcls.balancing.balancer import Balancer
from imgcls.balancing.base import Records
from imgcls.balancing.losses import Bce, CrossEntropy, Focal
from imgcls.core import config
from imgcls.core.dumping import dump
from imgcls.core.errors import ConfigError

LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=50).map(lambda labels: np.array(labels, dtype=np.int64))
AB = ("a", "b")
SEVERAL = np.array([[1, 0], [1, 1], [1, 0], [0, 0]])


def records(labels: Any, num_classes: int = 2) -> Records:
    classes = tuple("abcd"[:num_classes])
    return Records(labels=np.asarray(labels), groups=None, num_classes=num_classes, classes=classes)


# Weights of classes


def test_inverse_weights_by_hand() -> None:
    weights = Balancer(class_weights="inverse").weights(np.array([0, 0, 0, 1]), AB)
    assert weights == pytest.approx([0.5, 1.5])


def test_effective_weights_by_hand() -> None:
    weights = Balancer(class_weights="effective", beta=0.5).weights(np.array([0, 0, 0, 1]), AB)
    assert weights == pytest.approx(np.array([1 / 1.75, 1]) * 2 / (1 / 1.75 + 1))  # 1 + 0.5 + 0.25 effective records
    default = Balancer(class_weights="effective").weights(np.array([0, 0, 0, 1]), AB)
    assert default == pytest.approx(Balancer(class_weights="effective", beta=0.999).weights(np.array([0, 0, 0, 1]), AB))


def test_given_weights_are_ordered_by_class_and_scaled() -> None:
    assert Balancer(class_weights={"b": 1, "a": 3}).weights(np.array([0, 1]), AB) == pytest.approx([1.5, 0.5])


def test_classes_that_are_numbers_may_be_weighted_by_number() -> None:
    assert Balancer(class_weights={0: 1, 1: 3}).weights(np.array([0, 1]), ("0", "1")) == pytest.approx([0.5, 1.5])


@given(LABELS)
def test_inverse_weights_have_mean_one_and_equalise_the_present_classes(labels: NDArray[np.int64]) -> None:
    weights = Balancer(class_weights="inverse").weights(labels, ("a", "b", "c", "d"))
    assert weights is not None
    assert weights.mean() == pytest.approx(1)
    present, counts = np.unique(labels, return_counts=True)
    assert np.ptp(weights[present] * counts) == pytest.approx(0)
    assert not weights[np.setdiff1d(range(4), present)].any()


def test_inverse_weights_of_several_labels_count_each_label() -> None:
    assert Balancer(class_weights="inverse", loss="bce").weights(SEVERAL, AB) == pytest.approx([0.5, 1.5])


def test_no_weights_by_default() -> None:
    assert Balancer().weights(np.array([0, 1]), AB) is None
    assert Balancer().pos_weights(np.array([0, 1]), AB) is None
    assert Balancer().log_priors(np.array([0, 1]), AB) is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1, "c": 1}, "'class_weights' must name classes, got 'c'; there are 'a', 'b'"),
        ({"a": 1}, "'class_weights' must name every class, got none for 'b'"),
        ({"a": 0, "b": 1}, "'class_weights' must be above 0 for some class with records"),
    ],
)
def test_weights_that_do_not_fit_the_records_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Balancer(class_weights=weights).weights(np.array([0, 0]), AB)


# Weights of positives, and priors


@pytest.mark.parametrize(
    ("pos_weight", "labels", "expected"),
    [
        ("inverse", [0, 0, 0, 1], [3]),
        ("inverse", [1, 1], [1]),
        ("inverse", SEVERAL, [1 / 3, 3]),
        (0.2, [0, 0, 0, 1], [0.2]),
        (0.2, SEVERAL, [0.2, 0.2]),
    ],
)
def test_positives_weigh_as_much_as_negatives_or_as_given(pos_weight: Any, labels: Any, expected: list[float]) -> None:
    found = Balancer(loss="bce", pos_weight=pos_weight).pos_weights(np.array(labels), AB)
    assert found == pytest.approx(expected)


def test_log_priors_are_those_of_the_training_records_and_finite() -> None:
    found = Balancer(loss="logit-adjusted").log_priors(np.array([0, 0, 0, 1]), ("a", "b", "c"))
    assert found == pytest.approx(np.log([0.75, 0.25, 0.125]))


# Specs


@pytest.mark.parametrize(
    "balancer",
    [
        Balancer(loss={"name": "focal", "gamma": 1.5}, class_weights="effective", beta=0.9),
        Balancer(loss="bce", pos_weight="inverse", correct_priors=True),
        Balancer(sampler={"name": "weighted", "weights": {"a": 1, "b": 2}}, repeats="strong"),
        Balancer(sampler={"name": "group-uniform", "balanced": True}, loss="label-smoothing"),
        Balancer(sampler="group-uniform", class_weights={"a": 1, "b": 2.5}),
    ],
)
def test_balancer_comes_back_from_yaml(balancer: Balancer) -> None:
    options = config.from_yaml(config.to_yaml(dump(balancer)))
    assert config.build(Balancer, options, path="balancer") == balancer


def test_loss_is_a_name_a_spec_or_a_value() -> None:
    assert Balancer().loss == CrossEntropy()
    assert Balancer(loss="bce").loss == Bce()
    assert config.replace(Balancer(loss="focal"), {"loss.gamma": 1.0}).loss == Focal(gamma=1.0)


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "focl"}, "'loss' must name one of its kinds, got 'focl'; did you mean 'focal'"),
        (
            {"loss": {"name": "focal", "gamma": 0}},
            "'loss.gamma' must be a number above 0",
        ),
        ({"loss": {"name": "label-smoothing", "epsilon": 1}}, "'loss.epsilon' must be a number above 0 and below 1"),
        ({"loss": {"name": "logit-adjusted", "tau": -1}}, "'loss.tau' must be a number above 0"),
        ({"sampler": "wieghted"}, "'sampler' must name an installed plugin, got 'wieghted'; did you mean 'weighted'"),
        ({"sampler": {"name": "weighted", "power": 1}}, r"'sampler\.power' must be an option of Weighted"),
        ({"class_weights": "balanced"}, "'class_weights' must be None, 'inverse', 'effective' or a mapping"),
        ({"class_weights": [1, 2]}, r"'class_weights' must be None, .*, got \[1, 2\]"),
        ({"class_weights": np.array([1, 2])}, "'class_weights' must be None, .*, got array"),
        ({"class_weights": {"a": -1}}, "'class_weights' must be finite, 0 or more and not all 0, got"),
        ({"class_weights": {"a": 0}}, "not all 0"),
        ({"class_weights": {}}, "not all 0"),
        ({"class_weights": {"a": float("nan")}}, "finite"),
        ({"class_weights": {"a": "x"}}, "finite"),
        ({"beta": 0.9}, "'beta' must be left out unless 'class_weights' is 'effective', got 0.9"),
        ({"class_weights": "effective", "beta": 1}, "'beta' must be a number of at least 0 and below 1"),
        ({"pos_weight": 2}, "'pos_weight' must be left out with the loss 'cross-entropy', got 2; take the loss 'bce'"),
        ({"pos_weight": 0, "loss": "bce"}, "'pos_weight' must be a number above 0, got 0"),
        ({"pos_weight": "balanced", "loss": "bce"}, "'pos_weight' must be None, 'inverse' or a number above 0"),
        ({"repeats": "strong"}, "'repeats' must be left out with a sampler that repeats no record, got 'strong'; take"),
        ({"repeats": "strong", "sampler": "undersample"}, "'repeats' must be left out"),
        ({"correct_priors": True}, "'correct_priors' must be False where nothing changes the priors"),
        (
            {"correct_priors": True, "sampler": "oversample", "loss": "focal"},
            "'correct_priors' must be False with a loss .* got 'focal'; take",
        ),
        ({"correct_priors": True, "sampler": "oversample", "loss": "label-smoothing"}, "got 'label-smoothing'; take"),
        ({"correct_priors": 1}, "'correct_priors' must be a bool, got 1"),
        ({"allow_stacking": 1}, "'allow_stacking' must be a bool, got 1"),
    ],
)
def test_wrong_balancers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, LookupError), match=message):
        Balancer(**options)


CORRECTIONS: dict[str, dict[str, Any]] = {
    "sampler": {"sampler": "weighted"},
    "class_weights": {"class_weights": "inverse"},
    "pos_weight": {"pos_weight": 2.0, "loss": "bce"},
    "loss": {"loss": "logit-adjusted"},
}
PAIRS = [("sampler", "class_weights"), ("sampler", "pos_weight"), ("sampler", "loss"), ("class_weights", "pos_weight")]


@pytest.mark.parametrize(("first", "second"), [*PAIRS, ("class_weights", "loss")])
def test_correcting_twice_is_refused_unless_it_is_wanted(first: str, second: str) -> None:
    both = {**CORRECTIONS[first], **CORRECTIONS[second]}
    rule = f"'{second}' must not correct imbalance beside '{first}', .* corrects twice; drop one of them or set 'allow"
    with pytest.raises(ConfigError, match=rule):
        Balancer(**both)
    assert Balancer(**both, allow_stacking=True).corrections == (first, second)


def test_equal_groups_do_not_correct_classes_but_change_priors() -> None:
    assert Balancer(sampler="group-uniform", class_weights="inverse", correct_priors=True).corrections == (
        "class_weights",
    )
    assert Balancer(sampler="group-uniform", correct_priors=True).corrections == ()
    with pytest.raises(ConfigError, match="corrects twice"):
        Balancer(sampler={"name": "group-uniform", "balanced": True}, class_weights="inverse")


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({}, records(SEVERAL), "'loss' must be 'bce' where records have several labels, got 'cross-entropy'"),
        ({"loss": "bce"}, records([0, 1, 2], 3), "'loss' must be 'cross-entropy' for more than two classes, got 'bce'"),
        (
            {"sampler": "oversample", "loss": "bce"},
            records(SEVERAL),
            "several labels, got 'oversample'; take",
        ),
        ({"sampler": "weighted", "loss": "bce", "correct_priors": True}, records(SEVERAL), "take 'pos_weight' instead"),
        ({"class_weights": {"x": 1}}, records([0, 1]), "'class_weights' must name classes, got 'x'"),
        ({"sampler": "group-uniform"}, records([0, 1]), "one that needs no groups"),
        ({"sampler": "balanced-batch"}, records([0, 1, 2], 3), "'sampler' must not be 'balanced-batch' where"),
        (
            {"loss": "bce", "class_weights": "inverse", "correct_priors": True},
            records(SEVERAL),
            "'correct_priors' must be False where 'class_weights' weigh several labels",
        ),
    ],
)
def test_records_that_a_balancer_cannot_treat_are_refused_before_training(
    options: dict[str, Any], data: Records, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Balancer(**options).check(data, batch_size=2)


def test_records_that_a_balancer_can_treat_pass() -> None:
    Balancer(loss="bce", pos_weight="inverse", correct_priors=True).check(records(SEVERAL), batch_size=2)
    Balancer(sampler="balanced-batch").check(records([0, 1]), batch_size=2)
