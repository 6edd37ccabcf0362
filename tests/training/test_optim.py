import math
from typing import Any

import pytest
import torch
from torch import nn

from imgcls.core.config import replace
from imgcls.core.dumping import dump
from imgcls.core.errors import ConfigError
from imgcls.models.blocks import param_depths
from imgcls.models.small_cnn import SmallCnn
from imgcls.testing.values import chance_untouched
from imgcls.training.optimizers import Adam, AdamW, Optimizer, Sgd, Timm, param_groups, timm_names, to_optimizer

LR = 0.1


class Line(nn.Module):
    """A weight and a bias, whose gradients are given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1), 2.0, dtype=torch.float64))
        self.bias = nn.Parameter(torch.full((1,), 2.0, dtype=torch.float64))


class Net(nn.Module):
    """A stem, a block and a head, at depths 0, 1 and 2."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.head = nn.Linear(2, 1)


DEPTHS = {
    f"{part}.{kind}": depth for depth, part in enumerate(("body.0", "body.1", "head")) for kind in ("weight", "bias")
}


def stepped(optimizer: torch.optim.Optimizer, grad: float) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.full_like(parameter, grad)
    optimizer.step()


def after_two_steps(kind: Optimizer, grads: tuple[float, float]) -> tuple[float, float]:
    model = Line()
    optimizer = kind.over(model, lr=LR)
    for grad in grads:
        stepped(optimizer, grad)
    return model.weight.item(), model.bias.item()


def adam(value: float, grads: tuple[float, float], *, decoupled: float = 0, added: float = 0, **betas: float) -> float:
    mean = square = 0.0
    for step, grad in enumerate(grads, start=1):
        full = grad + added * value
        mean = betas["beta1"] * mean + (1 - betas["beta1"]) * full
        square = betas["beta2"] * square + (1 - betas["beta2"]) * full**2
        value *= 1 - LR * decoupled
        value -= LR * mean / (1 - betas["beta1"] ** step) / (math.sqrt(square / (1 - betas["beta2"] ** step)) + 1e-3)
    return value


def sgd(value: float, grads: tuple[float, float], *, decay: float, momentum: float, nesterov: bool) -> float:
    speed = 0.0
    for step, grad in enumerate(grads):
        full = grad + decay * value
        speed = momentum * speed + full if step else full
        value -= LR * (full + momentum * speed if nesterov else speed)
    return value


def test_two_steps_of_adamw_follow_its_equations() -> None:
    found = after_two_steps(AdamW(weight_decay=0.3, beta1=0.8, beta2=0.9, eps=1e-3), (1.0, -0.5))
    expected = [adam(2.0, (1.0, -0.5), decoupled=decay, beta1=0.8, beta2=0.9) for decay in (0.3, 0.0)]
    assert found == pytest.approx(expected)


def test_two_steps_of_adam_follow_its_equations() -> None:
    found = after_two_steps(Adam(weight_decay=0.3, beta1=0.8, beta2=0.9, eps=1e-3), (1.0, -0.5))
    expected = [adam(2.0, (1.0, -0.5), added=decay, beta1=0.8, beta2=0.9) for decay in (0.3, 0.0)]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_of_sgd_follow_its_equations(nesterov: bool) -> None:
    found = after_two_steps(Sgd(weight_decay=0.3, momentum=0.8, nesterov=nesterov), (1.0, -0.5))
    expected = [sgd(2.0, (1.0, -0.5), decay=decay, momentum=0.8, nesterov=nesterov) for decay in (0.3, 0.0)]
    assert found == pytest.approx(expected)


def test_two_steps_of_lion_follow_its_equations() -> None:
    """Chen et al. (2023), algorithm 2: the sign of a mixture of mean and gradient."""
    kind = to_optimizer({"name": "lion", "weight_decay": 0.3, "options": {"betas": [0.5, 0.9]}})
    for value, decay in zip(after_two_steps(kind, (1.0, -0.5)), (0.3, 0.0), strict=True):
        first = 2 * (1 - LR * decay) - LR  # the mean is 0.1 afterwards; 0.5 * 0.1 - 0.5 * 0.5 is negative
        assert value == pytest.approx(first * (1 - LR * decay) + LR)


def test_momentum_of_timm_is_0_9_as_there() -> None:
    for name in ("momentum", "nesterov"):
        found = after_two_steps(Timm(optimizer=name), (1.0, -0.5))
        ours = Sgd(weight_decay=0, momentum=0.9, nesterov=name == "nesterov")
        assert found == pytest.approx(after_two_steps(ours, (1.0, -0.5)))


@pytest.mark.parametrize("kind", [AdamW(), Adam(), Sgd(nesterov=True), *map(to_optimizer, timm_names())], ids=str)
def test_a_saved_state_goes_on_bit_by_bit(kind: Optimizer) -> None:
    def begun() -> tuple[Net, torch.optim.Optimizer]:
        net = Net()
        for number, parameter in enumerate(net.parameters()):
            nn.init.constant_(parameter, 0.1 * number + 0.3)
        return net, kind.over(net, lr=LR, layer_decay=0.5, depths=DEPTHS)

    def train(optimizer: torch.optim.Optimizer, grads: tuple[float, ...]) -> None:
        for grad in grads:
            stepped(optimizer, grad)

    whole, one = begun()
    train(one, (0.3, -0.2, 0.7, 0.1))
    half, two = begun()
    train(two, (0.3, -0.2))
    resumed, three = begun()
    resumed.load_state_dict(half.state_dict())
    three.load_state_dict(two.state_dict())
    train(three, (0.7, 0.1))
    assert all(torch.equal(*pair) for pair in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert not torch.equal(whole.head.weight, half.head.weight)


@pytest.mark.parametrize("kind", [AdamW(), Adam(), Sgd(), *map(to_optimizer, timm_names())], ids=str)
def test_a_schedule_finds_the_rate_and_the_shares_of_every_optimizer(kind: Optimizer) -> None:
    optimizer = kind.over(Net(), lr=LR, lr_scale=0.5)
    assert optimizer.defaults["lr"] == LR
    assert {(group["lr"], group["lr_scale"]) for group in optimizer.param_groups} == {(LR, 1.0), (LR / 2, 0.5)}


def rates(groups: list[dict[str, Any]], model: nn.Module) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}


def test_layer_decay_lowers_the_rate_from_depth_to_depth() -> None:
    net = Net()
    found = rates(param_groups(net, weight_decay=0.1, lr=LR, layer_decay=0.5, depths=DEPTHS), net)
    assert found == pytest.approx({name: LR * 0.5 ** (2 - depth) for name, depth in DEPTHS.items()})


def test_lr_scale_is_for_the_body_and_multiplies_layer_decay() -> None:
    net = Net()
    found = rates(param_groups(net, weight_decay=0.1, lr=LR, layer_decay=0.5, lr_scale=0.1, depths=DEPTHS), net)
    assert [found[f"{part}.weight"] for part in ("body.0", "body.1", "head")] == pytest.approx([0.0025, 0.005, 0.1])
    plain = rates(param_groups(net, weight_decay=0.1, lr=LR, lr_scale=0.1), net)
    assert [plain[f"{part}.bias"] for part in ("body.0", "body.1", "head")] == pytest.approx([0.01, 0.01, 0.1])


def test_two_steps_with_layer_decay_move_each_depth_by_its_rate() -> None:
    net = Net()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    optimizer = Sgd(momentum=0, weight_decay=0).over(net, lr=LR, layer_decay=0.5, depths=DEPTHS)
    stepped(optimizer, 1.0)
    stepped(optimizer, 3.0)
    moved = [(old - new).mean().item() for old, new in zip(before, net.parameters(), strict=True)]
    assert moved == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.4, 0.4])


def test_weights_are_decayed_and_biases_are_not_whoever_sets_the_decay() -> None:
    for optimizer, decay in (
        (AdamW(weight_decay=0.3).over(Line(), lr=LR), 0.3),
        (AdamW().over(Line(), lr=LR, weight_decay=0.2), 0.2),
    ):
        found = {group["params"][0].ndim: group["weight_decay"] for group in optimizer.param_groups}
        assert found == {2: decay, 1: 0.0}


def test_every_parameter_that_trains_is_in_one_group_and_no_other_is() -> None:
    net = Net()
    net.body[0].requires_grad_(False)
    groups = param_groups(net, weight_decay=0.1, lr=LR, layer_decay=0.5, depths=DEPTHS)
    assert sorted(rates(groups, net)) == ["body.1.bias", "body.1.weight", "head.bias", "head.weight"]
    assert sum(len(group["params"]) for group in groups) == 4


def test_layer_decay_knows_the_layers_of_a_backbone() -> None:
    model = SmallCnn(base=4, depth=2).build(2, in_channels=1, image_size=(8, 8))
    found = rates(param_groups(model, weight_decay=0, lr=LR, layer_decay=0.5, depths=param_depths(model)), model)
    assert found.keys() == dict(model.named_parameters()).keys()
    assert {rate for name, rate in found.items() if name.startswith("head.")} == {LR}
    assert len(set(found.values())) > 2
    assert max(rate for name, rate in found.items() if name.startswith("body.")) == LR / 2


def test_layer_decay_without_depths_is_refused() -> None:
    with pytest.raises(ConfigError, match="'layer_decay' must come with the depths of the parameters"):
        AdamW().over(Net(), lr=LR, layer_decay=0.5)


def test_a_model_of_which_nothing_trains_is_refused() -> None:
    with pytest.raises(ConfigError, match="'train' must leave parameters that train"):
        AdamW().over(Net().requires_grad_(False), lr=LR)


def test_specs_make_optimizers_and_are_made_of_them() -> None:
    assert to_optimizer({"name": "sgd", "momentum": 0.5}) == Sgd(momentum=0.5)
    assert to_optimizer("adam") == Adam()
    assert to_optimizer(None) is None
    spec = {"name": "lamb", "weight_decay": 0.1, "options": {"betas": [0.8, 0.9]}}
    lamb = to_optimizer(spec)
    assert lamb == Timm(optimizer="lamb", weight_decay=0.1, options={"betas": [0.8, 0.9]})
    assert to_optimizer(dump(lamb)) == lamb
    assert replace(lamb, {"options.betas": [0.7, 0.9]}).options == {"betas": [0.7, 0.9]}


def test_making_an_optimizer_leaves_chance_alone() -> None:
    with chance_untouched("nadamw"):
        to_optimizer("nadamw")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("adan-w", "'optimizer' must name an optimizer, got 'adan-w'; did you mean 'adanw'"),
        ("lam", "'optimizer' must name an optimizer, got 'lam'; did you mean .*'lamb'"),
        ("kron", "'optimizer' must name an optimizer, got 'kron'"),
        ("adahessian", "'optimizer' must name an optimizer, got 'adahessian'"),
        (
            {"name": "timm", "optimizer": "lio"},
            "'optimizer.optimizer' must name an optimizer, got 'lio'; did you mean .*'lion'",
        ),
        ({"name": "sgd", "beta1": 0.5}, "'optimizer.beta1' must be an option of Sgd"),
        ({"name": "sgd", "momentum": 1.0}, r"'optimizer.momentum' must be a number .* got 1.0"),
        ({"name": "sgd", "momentum": 0.0, "nesterov": True}, "'optimizer.nesterov' must be False without momentum"),
        ({"name": "adamw", "weight_decay": -1}, "'optimizer.weight_decay' must"),
        ({"name": "adam", "eps": 0}, "'optimizer.eps' must be a number above 0"),
        ({"name": "lamb", "options": {"foo": 1}}, "'optimizer.options' must suit 'lamb', got {'foo': 1}; .*foo"),
        ({"name": "adagrad", "options": {"betas": [0.9, 0.9]}}, "'optimizer.options' must suit 'adagrad'"),
        ({"name": "lion", "options": {"betas": [0.9, 2.0]}}, "'optimizer.options' must suit 'lion'"),
        ({"name": "lion", "options": {"weight_decay": 0.1}}, "'optimizer.options' must leave out 'weight_decay'"),
        ({"name": "lion", "options": 3}, "'optimizer.options' must be a Mapping"),
        ({"name": "lion", "betas": [0.9, 0.9]}, "'optimizer.betas' must be an option of Timm"),
        ({"momentum": 0.5}, "'optimizer' must name an optimizer, got None"),
        ({"name": ["adamw"]}, "'optimizer' must name an optimizer"),
        (3, "'optimizer' must name"),
    ],
)
def test_wrong_optimizers_are_refused_by_path(spec: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        to_optimizer(spec)
