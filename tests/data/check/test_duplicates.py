from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError
from imgcls.data.check import duplicates
from imgcls.data.check.checking import check
from imgcls.data.check.duplicates import checked_embeddings, copies, exact_pairs, near_pairs
from imgcls.data.check.report import CheckReport
from imgcls.data.check.scan import scan
from imgcls.data.dataset import Dataset

Texture = Callable[..., NDArray[np.uint8]]
Rows = list[tuple[int, int, str]]


def _set(*images: NDArray[np.uint8]) -> Dataset:
    return Dataset.from_arrays(np.stack(images), (["a", "b"] * len(images))[: len(images)])


def _rows(report: CheckReport) -> Rows:
    pairs = report.pairs
    return sorted(zip(pairs["a"].astype(int), pairs["b"].astype(int), pairs["kind"], strict=True))


@given(st.lists(st.sampled_from(["", "x", "y", "z"]), max_size=12))
def test_copies_have_one_digest(digests: list[str]) -> None:
    found = copies(np.array(digests, dtype=np.str_))
    expected = [[i for i, digest in enumerate(digests) if digest == name] for name in "xyz"]
    assert [group.tolist() for group in found] == [group for group in expected if len(group) > 1]


def test_pairs_of_many_copies_are_bounded() -> None:
    pairs = exact_pairs([np.arange(10, 70), np.array([3, 5])])
    assert len(pairs) == 50 * 49 // 2 + 10 + 1
    assert set(pairs.first[pairs.second >= 60].tolist()) == {10}
    assert len(exact_pairs([])) == 0


def test_equal_pixels_are_found(texture: Texture) -> None:
    report = check(_set(texture(0), texture(1), texture(0), texture(2), texture(0)))
    assert report.copies == (("000000", "000002", "000004"),)
    assert report.num_surplus == 2
    assert _rows(report) == [(0, 2, "exact"), (0, 4, "exact"), (2, 4, "exact")]


def test_same_bytes_of_another_shape_are_no_copies() -> None:
    one = scan(Dataset.from_arrays(np.arange(72, dtype=np.uint8).reshape(1, 8, 9), ["a"], classes=["a", "b"]))
    two = scan(Dataset.from_arrays(np.arange(72, dtype=np.uint8).reshape(1, 9, 8), ["a"], classes=["a", "b"]))
    assert one.digests[0] != two.digests[0]


def test_near_duplicates_are_found_and_others_not(texture: Texture) -> None:
    darker = (texture(3) * 0.6).astype(np.uint8)
    mirrored = np.ascontiguousarray(texture(5)[:, ::-1])
    report = check(_set(*(texture(seed) for seed in range(10)), darker, mirrored))
    assert _rows(report) == [(3, 10, "near"), (5, 11, "near")]
    assert report.pairs["flipped"].tolist() == [False, True]
    assert (report.pairs["similarity"] > 0.9).all()
    assert report.threshold == 0.75
    assert check(_set(texture(0), darker, texture(3)), near=False).pairs.empty


def test_what_is_near_one_copy_is_near_all(texture: Texture) -> None:
    darker = (texture(0) * 0.6).astype(np.uint8)
    report = check(_set(darker, texture(1), texture(0), texture(0)))
    assert _rows(report) == [(0, 2, "near"), (0, 3, "near"), (2, 3, "exact")]


def test_plain_and_small_images_are_compared_for_equality_only(texture: Texture) -> None:
    plain = [np.full((72, 80), value, np.uint8) for value in (90, 91)]
    report = check(_set(texture(0), *plain))
    assert (report.num_compared, len(report.pairs)) == (1, 0)
    assert "not compared" in set(report.problems["kind"])
    small = check(_set(texture(0, size=(20, 40)), texture(0, size=(20, 40)), texture(0, size=(20, 40), low=30)))
    assert (small.num_compared, len(small.pairs)) == (0, 1)


def test_sets_whose_images_are_all_alike_need_more_likeness(texture: Texture) -> None:
    base = texture(0).astype(np.int64)
    alike = [np.clip(base + texture(seed, low=-60, high=60).view(np.int8), 0, 255) for seed in range(1, 121)]
    seen = scan(_set(*(image.astype(np.uint8) for image in alike)))
    assert near_pairs(seen, [], seed=0).threshold > 0.75
    assert near_pairs(seen, [], seed=0).threshold == near_pairs(seen, [], seed=0).threshold


def test_a_film_is_cut_off(texture: Texture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_LIMIT", 5)
    report = check(_set(*((texture(0) * (1 - 0.02 * step)).astype(np.uint8) for step in range(12))))
    assert "incomplete" in set(report.problems["kind"])


def test_alike_embeddings_are_listed_and_confirmed_on_pixels(texture: Texture) -> None:
    darker = (texture(0) * 0.6).astype(np.uint8)
    data = _set(texture(0), texture(1), texture(2), darker, texture(4))
    vectors = np.eye(5, 8)
    vectors[2] = vectors[1] + [0, 0, 0.1, 0, 0, 0, 0, 0]
    report = check(data, embeddings=vectors)
    assert _rows(report) == [(0, 3, "near"), (1, 2, "embedding")]
    assert report.pairs["similarity"].iloc[1] == pytest.approx(1 / np.sqrt(1.01), abs=1e-4)
    vectors[3] = vectors[0]
    seen = scan(data)
    found = attrs.evolve(near_pairs(seen, [], seed=0), pairs=exact_pairs([]))
    confirmed = duplicates.look_alikes(vectors.astype(np.float32), found, exact_pairs([]))
    assert confirmed.kind.tolist() == ["near", "embedding"]
    hints = check(data, embeddings=vectors, near=False)
    assert set(hints.pairs["kind"]) == {"embedding"}
    assert hints.problems.empty  # a hint makes no cluster


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((3, 2)), r"'embeddings' must have the shape \(2, D\), one row a record, got \(3, 2\)"),
        (np.zeros(2), "'embeddings' must have the shape"),
        (np.full((2, 2), np.nan), "'embeddings' must be finite"),
    ],
)
def test_wrong_embeddings_are_refused(vectors: NDArray[np.float64], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked_embeddings(vectors, 2)
