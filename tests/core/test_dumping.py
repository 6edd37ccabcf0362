from __future__ import annotations

from pathlib import Path
from typing import final

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray

from imgcls.balancing.balancer import Balancer
from imgcls.balancing.base import Records, Sampler
from imgcls.core import config
from imgcls.core.dumping import dump, spec_of
from imgcls.splitting.base import Splitter, splitters


@final
@attrs.frozen(kw_only=True)
class Unregistered(Sampler):
    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return np.zeros(1, dtype=np.int64)


@pytest.mark.parametrize(
    "balancer",
    [
        Balancer(),
        Balancer(sampler="weighted", loss="bce"),
        Balancer(class_weights={"a": 1, "b": 2.5}),
        Balancer(sampler={"name": "weighted"}, class_weights="inverse", allow_stacking=True),
    ],
)
def test_balancer_comes_back_from_yaml(balancer: Balancer) -> None:
    options = config.from_yaml(config.to_yaml(dump(balancer)))
    assert config.build(Balancer, options, path="balancer") == balancer


@pytest.mark.parametrize("name", splitters.names())
def test_splitter_comes_back_from_its_spec(name: str) -> None:
    changed = {"balanced-holdout": {"per_class": 7}, "repeated": {"times": 3}}.get(name, {"val": 0.3})
    splitter: Splitter = splitters.create({"name": name, **changed})
    assert spec_of(splitter)["name"] == name
    assert splitters.create(spec_of(splitter)) == splitter


def test_what_cannot_be_rebuilt_is_opaque() -> None:
    assert set(dump(Unregistered())) == {"opaque"}
    assert set(dump({"f": print})["f"]) == {"opaque"}


def test_scalars_and_arrays_become_plain() -> None:
    dumped = dump({1: np.float32(0.5), "p": Path("a"), "t": (np.int64(2), None), "a": np.arange(2)})
    assert dumped == {"1": 0.5, "p": "a", "t": [2, None], "a": [0, 1]}
