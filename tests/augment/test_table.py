import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imgcls.augment.table import Rows, table
from imgcls.core.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


@given(st.integers(0, 500), st.integers(0, 60), st.integers(1, 40))
def test_rows_are_the_same_with_and_without_the_others(start: int, count: int, columns: int) -> None:
    whole = table(0, 560, columns=columns, seed=3, epoch=1)
    assert torch.equal(table(start, start + count, columns=columns, seed=3, epoch=1), whole[start : start + count])


def test_values_are_uniform_and_below_one() -> None:
    values = table(0, 20_000, columns=5, seed=0, epoch=0)
    assert values.dtype == torch.float32
    assert 0 <= values.min() < 1e-4
    assert 0.9999 < values.max() < 1
    counts = torch.histc(values, 20, 0, 1) / values.numel()
    assert (counts - 0.05).abs().max() < 0.003
    assert torch.corrcoef(values.T).fill_diagonal_(0).abs().max() < 0.03


@pytest.mark.parametrize("other", [{"seed": 1, "epoch": 0}, {"seed": 0, "epoch": 1}])
def test_other_seeds_and_epochs_have_other_tables(other: dict[str, int]) -> None:
    assert not (table(0, 9, columns=4, seed=0, epoch=0) == table(0, 9, columns=4, **other)).any()


def test_rows_may_come_in_any_order_and_none_at_all() -> None:
    whole = table(0, 10, columns=3, seed=5, epoch=2)
    numbers = np.array([7, 2, 2, 9])
    assert torch.equal(Rows(seed=5, epoch=2, numbers=numbers).uniforms(3), whole[torch.from_numpy(numbers)])
    assert Rows.span(4, 0, seed=5, epoch=2).uniforms(3).shape == (0, 3)


def test_rows_far_apart_are_made_without_those_between_them() -> None:
    numbers = np.array([10**12, 3, 10**6, 3, 4])
    found = Rows(seed=5, epoch=2, numbers=numbers).uniforms(3)
    alone = [table(number, number + 1, columns=3, seed=5, epoch=2) for number in numbers.tolist()]
    assert torch.equal(found, torch.cat(alone))


def test_rows_refuse_numbers_below_zero_and_labels_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="'numbers' must be a row of numbers of at least 0"):
        Rows(seed=0, epoch=0, numbers=np.array([-1]))
    with pytest.raises(ConfigError, match=r"'labels' must have shape \(3,\), got \(2,\)"):
        Rows.span(0, 3, seed=0, epoch=0, labels=np.array([0, 1]))
