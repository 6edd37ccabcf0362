import copy
from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError
from imgcls.training.averaging import Ema, greedy_soup


class Net(nn.Module):
    """One weight before a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0]))
        self.norm = nn.BatchNorm1d(1)


def moved(net: Net, weight: float) -> Net:
    """What a step leaves: another weight, another running mean, one batch more."""
    with torch.no_grad():
        net.weight.fill_(weight)
        assert net.norm.running_mean is not None
        net.norm.running_mean.fill_(10 * weight)
        assert net.norm.num_batches_tracked is not None
        net.norm.num_batches_tracked += 1
    return net


def values(state: Mapping[str, Tensor]) -> tuple[float, float, int]:
    return state["weight"].item(), state["norm.running_mean"].item(), int(state["norm.num_batches_tracked"])


def test_two_steps_of_ema_are_as_computed_by_hand() -> None:
    net = Net()
    averaged = Ema(decay=0.75, warmup=False).over(net)
    averaged.update(moved(net, 3.0))
    assert values(averaged.average) == pytest.approx((0.75 * 1 + 0.25 * 3, 0.25 * 30, 1))
    averaged.update(moved(net, 5.0))
    assert values(averaged.average) == pytest.approx((0.75 * 1.5 + 0.25 * 5, 0.75 * 7.5 + 0.25 * 50, 2))


def test_two_steps_of_ema_with_warm_up_are_as_computed_by_hand() -> None:
    net = Net()
    averaged = Ema(decay=0.15).over(net)
    averaged.update(moved(net, 3.0))
    first = 1 / 10 * 1 + 9 / 10 * 3  # (1 + 0) / (10 + 0)
    assert averaged.average["weight"].item() == pytest.approx(first)
    averaged.update(moved(net, 5.0))  # (1 + 1) / (10 + 1) is above the decay
    assert averaged.average["weight"].item() == pytest.approx(0.15 * first + 0.85 * 5)


def test_ema_is_that_of_torch() -> None:
    net = Net()
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)  # type: ignore[no-untyped-call]
    theirs = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=average, use_buffers=True)
    theirs.update_parameters(net)  # the first call copies
    ours = Ema(decay=0.9, warmup=False).over(net)
    for weight in (2.0, -1.0, 0.3):
        theirs.update_parameters(moved(net, weight))
        ours.update(net)
    # torch averages the counter too
    assert values(ours.average)[:2] == pytest.approx(values(theirs.module.state_dict())[:2])


def test_the_average_shares_no_memory_with_the_model() -> None:
    net = Net()
    averaged = Ema().over(net)
    moved(net, 7.0)
    assert values(averaged.average) == (1.0, 0.0, 0)


def test_a_saved_average_goes_on_bit_by_bit() -> None:
    net = Net()
    whole = Ema(decay=0.7).over(net)
    whole.update(moved(net, 0.1))
    state = copy.deepcopy(whole.state_dict())
    resumed = Ema(decay=0.7).over(moved(Net(), 99.0))
    resumed.load_state_dict(state)
    moved(net, 0.7)
    for averaged in (whole, resumed):
        averaged.update(net)
    assert values(whole.average) == values(resumed.average)
    assert whole.updates == resumed.updates == 2


def test_a_model_has_the_average_while_swapped_and_its_own_values_afterwards() -> None:
    net = Net()
    averaged = Ema(decay=0.75, warmup=False).over(net)
    averaged.update(moved(net, 3.0))

    def swapped() -> None:
        with averaged.swapped(net):
            assert values(net.state_dict()) == values(averaged.average)
            raise KeyboardInterrupt

    parameter = net.weight
    with pytest.raises(KeyboardInterrupt):
        swapped()
    assert values(net.state_dict()) == (3.0, 30.0, 1)
    assert net.weight is parameter  # which the optimizer holds
    assert values(averaged.average) == pytest.approx((1.5, 7.5, 1))


@pytest.mark.parametrize("decay", [0, 1, -0.5, "much"])
def test_a_decay_that_is_no_share_is_refused(decay: object) -> None:
    with pytest.raises(ConfigError, match="'decay' must be a number above 0 and below 1"):
        Ema(decay=decay)  # type: ignore[arg-type]


def candidates(*weights: float) -> list[dict[str, Tensor]]:
    return [moved(Net(), weight).state_dict() for weight in weights]


def test_a_greedy_soup_is_as_computed_by_hand() -> None:
    asked = []

    def score(state: Mapping[str, Tensor]) -> tuple[float, ...]:
        asked.append(state["weight"].item())
        return (-abs(state["weight"].item() - 2.0),)

    soup = greedy_soup(candidates(1.0, 2.5, -3.0, 3.1), score)
    assert asked == pytest.approx([1.0, (1 + 2.5) / 2, (1 + 2.5 - 3) / 3, (1 + 2.5 + 3.1) / 3])
    assert soup.members == (0, 1, 3)
    assert soup.score == pytest.approx((-0.2,))
    assert values(soup.weights) == pytest.approx((2.2, 22.0, 1))


def test_what_makes_no_difference_to_the_score_is_taken_in() -> None:
    assert greedy_soup(candidates(1.0, 2.0), lambda _: (0.5, -0.1)).members == (0, 1)


def test_a_soup_of_one_is_that_candidate_bit_by_bit() -> None:
    rng = torch.Generator().manual_seed(0)
    best, other = ({"weight": torch.randn(7, 5, generator=rng)} for _ in range(2))
    soup = greedy_soup([best, other], lambda state: (float(torch.equal(state["weight"], best["weight"])),))
    assert soup.members == (0,)
    assert torch.equal(soup.weights["weight"], best["weight"])
    assert soup.weights["weight"] is not best["weight"]


def test_counters_of_a_soup_are_those_of_the_best() -> None:
    states = [moved(moved(Net(), 2.0), 1.0).state_dict(), moved(Net(), 1.0).state_dict()]
    assert values(greedy_soup(states, lambda _: (1.0,)).weights) == (1.0, 10.0, 2)


def test_candidates_are_read_one_after_the_other() -> None:
    order: list[str] = []

    def read() -> Iterator[dict[str, Tensor]]:
        for state in candidates(1.0, 2.0):
            order.append("read")
            yield state

    def score(_: Mapping[str, Tensor]) -> tuple[float, ...]:
        order.append("score")
        return (0.0,)

    greedy_soup(read(), score)
    assert order == ["read", "score", "read", "score"]


def test_no_candidates_and_those_of_another_model_are_refused() -> None:
    with pytest.raises(ConfigError, match="'candidates' must be at least one, got none"):
        greedy_soup([], lambda _: (0.0,))
    with pytest.raises(ConfigError, match="'candidates' must hold the tensors of one model, got others in number 1"):
        greedy_soup([nn.Linear(2, 1).state_dict(), nn.Linear(3, 1).state_dict()], lambda _: (0.0,))
