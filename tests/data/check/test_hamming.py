from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcls.data.check import hamming
from imgcls.data.check.hamming import close_pairs

WORDS = st.lists(st.integers(0, 2**64 - 1), max_size=12)


def _found(hashes: list[int], others: list[int], radius: int) -> list[tuple[int, int]]:
    parts = close_pairs(np.array(hashes, np.uint64), np.array(others, np.uint64), radius)
    return sorted((i, j) for one, two in parts for i, j in zip(one.tolist(), two.tolist(), strict=True))


def _expected(hashes: list[int], others: list[int], radius: int) -> list[tuple[int, int]]:
    pairs = [(i, j) for i in range(len(hashes)) for j in range(i + 1, len(hashes))]
    return [(i, j) for i, j in pairs if (hashes[i] ^ others[j]).bit_count() <= radius]


@given(WORDS, st.lists(st.integers(0, 2**64 - 1), max_size=3), st.integers(0, 64))
def test_pairs_are_those_of_brute_force(words: list[int], flips: list[int], radius: int) -> None:
    hashes = words + [word ^ flip for word in words for flip in flips]
    assert _found(hashes, hashes, radius) == _expected(hashes, hashes, radius)
    assert _found(hashes, hashes[::-1], radius) == _expected(hashes, hashes[::-1], radius)


def test_blocks_lose_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "_ROWS", 3)
    monkeypatch.setattr(hamming, "_COLUMNS", 5)
    hashes = np.random.default_rng(0).integers(0, 2**64, 40, dtype=np.uint64).tolist()
    assert _found(hashes, hashes, 28) == _expected(hashes, hashes, 28)
