from pathlib import Path

import numpy as np
import pytest

from imgcls.core.errors import DataError, RunError
from imgcls.explain.attributions import Attributions


def some(number: int = 3, *, method: str = "m", size: int = 4) -> Attributions:
    rng = np.random.default_rng(number)
    return Attributions(
        maps=rng.normal(size=(number, size, size)),
        native=rng.normal(size=(number, 2, 2)),
        logits=rng.normal(size=(number, 2)),
        target=np.arange(number) % 2,
        score=rng.normal(size=number),
        conserved=np.ones(number),
        valid=np.arange(number) > 0,
        provenance={"method": method, "options": {}, "layer": None, "versions": {"torch": "2"}},
    )


def same(one: Attributions, other: Attributions) -> bool:
    names = ("maps", "native", "logits", "target", "score", "conserved", "valid")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_a_file_gives_back_the_same_floats(tmp_path: Path) -> None:
    before = some()
    before.save(tmp_path / "a.npz")
    after = Attributions.load(tmp_path / "a.npz")
    assert same(before, after)
    assert after.provenance == before.provenance
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["maps"].dtype == np.float32


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(RunError, match=r"saved attributions, got .*bad.npz"):
        Attributions.load(tmp_path / "bad.npz")
    with pytest.raises(RunError, match="must name an existing file"):
        Attributions.load(tmp_path / "none.npz")


def test_parts_put_together_are_the_whole() -> None:
    whole = some(5)
    assert same(Attributions.concat([whole.take([0, 1]), whole.take([2, 3, 4])]), whole)
    assert same(whole.take(np.array([False, True, False, False, True])), whole.take([1, 4]))
    assert len(whole.take([])) == 0


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="'parts' must hold attributions"):
        Attributions.concat([])
    with pytest.raises(DataError, match="'parts' must be of one method"):
        Attributions.concat([some(), some(method="other")])
    with pytest.raises(DataError, match="one size"):
        Attributions.concat([some(), some(size=8)])


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(DataError, match=r"'valid' must have 1 axes and 1 entries, got \(2,\)"):
        Attributions(
            maps=np.zeros((1, 2, 2)),
            native=np.zeros((1, 2, 2)),
            logits=np.zeros((1, 2)),
            target=[0],
            score=[0.0],
            valid=[True, True],
        )
