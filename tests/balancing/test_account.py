from __future__ import annotations

import json

import numpy as np
import pytest

from imgcls.balancing.account import account
from imgcls.balancing.balancer import Balancer
from imgcls.balancing.base import Records

RECORDS = Records(labels=np.array([0, 0, 0, 1]), groups=None, num_classes=3, classes=("a", "b", "c"))
DRAWS = [np.array([0, 1, 2, 3, 3, 3]), np.array([0, 0, 1, 3, 3, 3])]


def test_account_by_hand() -> None:
    found = account(Balancer(sampler="oversample", correct_priors=True), RECORDS, DRAWS)
    assert found["balancer"]["sampler"] == {"name": "oversample"}
    assert (found["records"], found["counted_epochs"], found["draws"]) == (4, 2, 6)
    a, b, c = (found["classes"][name] for name in "abc")
    assert (a["records"], a["draws"], a["share"], a["repeats"]) == (3, 3, 0.5, pytest.approx(1 / 6))
    assert (b["records"], b["draws"], b["share"], b["repeats"]) == (1, 3, 0.5, pytest.approx(4 / 6))
    assert (a["class_weight"], a["pos_weight"], a["pi_data"], a["pi_seen"]) == (None, None, 0.75, 0.5)
    assert a["shift"] == pytest.approx(np.log(0.75 / 0.5))
    assert (c["records"], c["repeats"], c["pi_data"], c["shift"]) == (0, 0, 0, None)


def test_account_has_the_weights_of_the_loss() -> None:
    records = Records(labels=np.array([0, 0, 0, 1]), groups=None, num_classes=2)
    found = account(Balancer(loss="bce", pos_weight="inverse", correct_priors=True), records, [np.arange(4)] * 2)[
        "classes"
    ]
    assert (found["0"]["pos_weight"], found["1"]["pos_weight"]) == (None, 3)
    assert (found["0"]["shift"], found["1"]["shift"]) == (None, pytest.approx(-np.log(3)))
    weighted = account(Balancer(class_weights="inverse"), records, [np.arange(4)])["classes"]
    assert [weighted[name]["class_weight"] for name in "01"] == pytest.approx([0.5, 1.5])
    assert [weighted[name]["pi_seen"] for name in "01"] == pytest.approx([0.5, 0.5])
    assert weighted["0"]["shift"] is None


@pytest.mark.parametrize("loss", ["cross-entropy", "bce", "focal", "logit-adjusted", "label-smoothing"])
def test_account_of_every_loss_is_plain(loss: str) -> None:
    records = Records(labels=np.array([0, 0, 1]), groups=None, num_classes=2, classes=("a", "b"))
    found = account(Balancer(loss=loss), records, [np.arange(3)])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_account_of_several_labels_counts_each() -> None:
    records = Records(labels=np.array([[1, 0], [1, 1], [0, 0]]), groups=None, num_classes=2, classes=("a", "b"))
    found = account(Balancer(loss="bce", sampler="weighted"), records, [np.array([0, 1, 1])])["classes"]
    assert (found["a"]["draws"], found["b"]["draws"], found["b"]["repeats"]) == (3, 2, 0.5)
    assert (found["b"]["pi_data"], found["b"]["pi_seen"]) == pytest.approx((1 / 3, 2 / 3))
