from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imgcls.core.randomness import derive_seed, generator

KEYS = st.lists(st.integers(0, 2**40) | st.text(max_size=3), max_size=3).map(tuple)


@given(st.integers(0, 2**63), KEYS)
def test_same_key_same_draws(seed: int, keys: tuple[int | str, ...]) -> None:
    assert generator(seed, *keys).integers(2**62) == generator(seed, *keys).integers(2**62)


@given(st.tuples(st.integers(0, 2**40), KEYS), st.tuples(st.integers(0, 2**40), KEYS))
def test_other_key_other_draws(one: tuple[int, tuple[int | str, ...]], two: tuple[int, tuple[int | str, ...]]) -> None:
    assert (derive_seed(one[0], *one[1]) == derive_seed(two[0], *two[1])) == (one == two)


def test_near_keys_are_other_keys() -> None:
    keys: list[tuple[int | str, ...]] = [(), (0,), (0, 0), ("0",), ("", 0), (0, ""), (1,), (2**32,), (1, 0)]
    assert len({derive_seed(0, *key) for key in keys}) == len(keys)


def test_numpy_numbers_are_numbers() -> None:
    assert derive_seed(int(np.int64(3)), int(np.int32(4))) == derive_seed(np.int64(3), np.int32(4))  # type: ignore[arg-type]


def test_uses_are_independent() -> None:
    draws = np.stack([generator(7, "use", number).random(2000) for number in range(4)])
    assert np.abs(np.corrcoef(draws) - np.eye(4)).max() < 0.08
