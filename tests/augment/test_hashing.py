import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from imgcls.augment.hashing import normal, uniform

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def finalizer(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    words = (words ^ (words >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    words = (words ^ (words >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return np.bitwise_xor(words, words >> np.uint32(16))


def test_uniforms_are_the_finalizer_of_murmurhash() -> None:
    found = uniform(torch.tensor([7, 2**24 - 1]), (5, 1000), CPU)
    places = finalizer(np.arange(5000, dtype=np.uint32))
    for row, key in zip(found.numpy(), (7, 2**24 - 1), strict=True):
        wanted = (finalizer(places ^ np.uint32(key)) & 0xFFFFFF) / 2**24
        assert (row.ravel() == wanted).all()


def test_normal_numbers_are_normal_and_do_not_depend_on_other_keys_or_places() -> None:
    keys = torch.arange(1000, 1008)
    found = normal(keys, (3, 99, 101), CPU)
    assert torch.equal(normal(keys[3:4], (3, 99, 101), CPU), found[3:4])
    assert abs(found.mean().item()) < 0.005
    assert found.std().item() == pytest.approx(1, abs=0.005)
    assert found.pow(4).mean().item() == pytest.approx(3, abs=0.05)
    between = torch.corrcoef(found.flatten(1)).fill_diagonal_(0)
    assert between.abs().max() < 0.03
    flat = found.flatten(1)
    for lag in (1, 2, 101):
        assert abs((flat[:, lag:] * flat[:, :-lag]).mean().item()) < 0.01
