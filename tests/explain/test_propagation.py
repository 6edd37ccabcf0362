"""Functions one by one, against the numbers of other libraries and against completeness."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from imgcls.core.errors import UnsupportedModelError
from imgcls.explain.base import explainers
from imgcls.explain.completeness import completeness, leaks
from imgcls.explain.composites import Composite
from imgcls.explain.lrp import Lrp
from imgcls.explain.propagation import Propagation
from imgcls.explain.rules import AlphaBeta, Epsilon, Gamma


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relevance(run: Callable[[Tensor], Tensor], x: Tensor, composite: Composite | None = None, **options: Any) -> Tensor:
    """The relevance of x for the sum of what is run."""
    leaf = x.clone().requires_grad_()
    with Propagation(composite, **options):
        out = run(leaf)
    (gradient,) = torch.autograd.grad(out.sum(), leaf)
    return leaf.detach() * gradient


# Numbers of the tests of captum: linear 3 to 3 of weights 2, ReLU, linear 3 to 1 of weights 3, images (1, 2, 3).
X = torch.tensor([[1.0, 2.0, 3.0]])


def captum(first: float = 2.0) -> Any:
    layers = nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False)
    model: Any = nn.Sequential(*layers).requires_grad_(False)
    model[0].weight.fill_(2.0)
    model[0].weight[0, 0] = first
    model[2].weight.fill_(3.0)
    return model


def test_captums_epsilon() -> None:
    assert torch.allclose(relevance(captum(), X), torch.tensor([[18.0, 36.0, 54.0]]))
    assert torch.allclose(relevance(captum(), X, Composite()), torch.tensor([[18.0, 36.0, 54.0]]), atol=1e-3)


class Each(nn.Module):
    """Two linear layers, each with a rule of its own."""

    def __init__(self, model: nn.Sequential, rules: list[Composite]) -> None:
        super().__init__()
        self.model, self.rules = model, rules

    def relevance(self, x: Tensor) -> Tensor:
        leaf = x.clone().requires_grad_()
        with Propagation(self.rules[0]):
            hidden = self.model[0](leaf)
        with Propagation(self.rules[1]):
            out = self.model[2](self.model[1](hidden))
        (gradient,) = torch.autograd.grad(out.sum(), leaf)
        return leaf.detach() * gradient


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([Composite(linear=Gamma(gamma=1.0)), Composite(linear=Gamma(gamma=0.25))], [28 / 3, 104 / 3, 52]),
        ([Composite(linear=AlphaBeta(alpha=1.0, beta=0.0))] * 2, [12, 33.6, 50.4]),
    ],
)
def test_captums_gamma_and_alpha_beta(rules: list[Composite], expected: list[float]) -> None:
    found = Each(captum(-2.0), rules).relevance(X)
    assert torch.allclose(found, torch.tensor([expected]), atol=1e-3)


def test_captums_tanh_is_an_activation() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 1, bias=False)).requires_grad_(
        False
    )
    for linear in (model[0], model[2]):
        linear.weight.fill_(0.1)
    found = relevance(model, X, Composite())
    assert torch.allclose(found, torch.tensor([[0.0269, 0.0537, 0.0806]]), atol=1e-4)


def test_captums_skip_connection() -> None:
    x, weight = torch.tensor([[2.0, 3.0]]), torch.full((2, 2), 5.0)
    out = relevance(lambda v: (v + functional.linear(v, weight))[:, 1], x, Composite())
    assert torch.allclose(out, torch.tensor([[10.0, 18.0]]), atol=1e-3)


def test_captums_max_pool() -> None:
    x = torch.tensor([[[[1.0, 2.0], [5.0, 6.0]]]])
    assert relevance(lambda v: functional.max_pool2d(v, 2), x).flatten().tolist() == [0, 0, 0, 6]


# Formulas of the tests of LXT (Achtibat et al., 2024).


def test_the_softmax_of_attn_lrp() -> None:
    x, arriving = drawn(2, 5), drawn(2, 5, seed=1)
    shares = x.softmax(dim=1)
    found = relevance(lambda v: v.softmax(dim=1) / shares * arriving, x, split=True)
    assert torch.allclose(found, x * (arriving - shares * arriving.sum(dim=1, keepdim=True)))


def test_a_product_of_matrices_gives_each_one_half() -> None:
    a, b, arriving = drawn(3, 4), drawn(4, 2, seed=1), drawn(3, 2, seed=2)
    product = a @ b

    def one(x: Tensor) -> Tensor:
        return (x @ b.clone().requires_grad_()) / product * arriving

    def other(x: Tensor) -> Tensor:
        return (a.clone().requires_grad_() @ x) / product * arriving

    parts = a[:, :, None] * b[None] / (2 * product[:, None, :]) * arriving[:, None, :]
    assert torch.allclose(relevance(one, a), parts.sum(dim=2))
    assert torch.allclose(relevance(other, b), parts.sum(dim=0))


def test_sums_and_means_share_in_proportion() -> None:
    x = drawn(3, 4).abs()
    assert torch.allclose(relevance(lambda v: v.sum(dim=1), x), x)
    assert torch.allclose(relevance(lambda v: v.mean(dim=1), x), x / 4)


def test_attention_hands_relevance_to_the_values_alone_or_splits_it() -> None:
    q, k, v = (drawn(1, 2, 5, 3, seed=seed) for seed in range(3))
    out = functional.scaled_dot_product_attention(q, k, v)
    values = relevance(lambda x: functional.scaled_dot_product_attention(q, k, x), v)
    assert torch.allclose(values.sum(), out.sum())

    def all_of(x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x[0], x[1], x[2])

    whole = torch.stack([q, k, v])
    assert torch.allclose(relevance(all_of, whole)[2], values)
    assert not relevance(all_of, whole)[:2].any()
    split = relevance(all_of, whole, split=True)
    assert split[0].any()
    assert torch.allclose(split[2], values / 2)


_SINGLE = "silu gelu hardswish relu6 hardtanh mish elu selu celu tanh softplus leaky_relu sigmoid hardsigmoid softsign"


def grn(x: Tensor) -> Tensor:
    size: Tensor = x.norm(p=2, dim=(2, 3), keepdim=True)
    return x * (size / size.mean(1, keepdim=True))


def dynamic(x: Tensor) -> Tensor:
    return functional.conv2d(x, x.mean((0, 2, 3))[:, None, None, None].expand(4, 4, 1, 1), torch.ones(4))


SIGNAL = drawn(2, 4, 6, 6)
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "in place": lambda x: (x * 1).relu_().mul_(2).add_(x),
    **{name: getattr(functional, name) for name in _SINGLE.split()},
    "clamp": lambda x: x.clamp(min=0.3),
    "pow": lambda x: x.clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3),
    "square": lambda x: x.square(),
    "gate": lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid(),
    "gate through shapes": lambda x: x.sigmoid().mean((2, 3)).view(2, 4, 1, 1).expand_as(x) * x,
    "glu": lambda x: functional.glu(x, 1),
    "product": lambda x: x * x.flip(1),
    "matmul": lambda x: x @ x.transpose(2, 3),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x.flip(1)),
    "quotient": lambda x: x / x.abs().sum(dim=1, keepdim=True),
    "constant": lambda x: (2 - x + 1) * 3 - 0.5,
    "cat": lambda x: torch.cat([x, torch.ones_like(x)], dim=1),
    "where": lambda x: torch.where(x > 0, x, torch.full_like(x, 0.2)),
    "addcmul": lambda x: torch.addcmul(torch.ones(4, 1, 1), torch.full((4, 1, 1), 2.0), x * x, value=0.5),
    "baddbmm": lambda x: torch.baddbmm(torch.ones(6, 6), x[:, 0], x[:, 1], beta=0.5, alpha=2),
    "layer norm": lambda x: functional.layer_norm(x, (6,), torch.full((6,), 2.0), torch.ones(6)),
    "group norm": lambda x: functional.group_norm(x, 2, torch.full((4,), 2.0), torch.ones(4)),
    "instance norm": lambda x: functional.instance_norm(x, weight=torch.full((4,), 2.0), bias=torch.ones(4)),
    "rms norm": lambda x: functional.rms_norm(x, (6,), torch.full((6,), 2.0)),
    "norm by hand": lambda x: x * (x.pow(2).mean(1, keepdim=True) + 1e-5).rsqrt(),
    "response norm": grn,
    "normalize": lambda x: functional.normalize(x, dim=1),
    "local response": lambda x: functional.local_response_norm(x, 2),
    "batch norm": lambda x: functional.batch_norm(x, torch.ones(4), torch.full((4,), 2.0), None, torch.ones(4)),
    "convolution": lambda x: functional.conv2d(x, torch.ones(3, 4, 3, 3), torch.ones(3)),
    "dynamic convolution": dynamic,
    "transposed": lambda x: functional.conv_transpose2d(x, torch.ones(4, 3, 2, 2), torch.ones(3), stride=2),
    "pooling": lambda x: functional.adaptive_max_pool2d(functional.avg_pool2d(functional.max_pool2d(x, 2), 2), 1),
    "resizing": lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x.flip(1), x * 2),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_goes_into_a_function_comes_out(name: str) -> None:
    leaf, sources = SIGNAL.clone().requires_grad_(), list[Tensor]()
    torch.set_default_dtype(torch.float64)
    try:
        expected = FUNCTIONS[name](SIGNAL.clone())
        with Propagation(None, sources=sources):
            out = FUNCTIONS[name](leaf)
        arriving = drawn(*out.shape, seed=7)
        gradients = torch.autograd.grad(out, [leaf, *sources], arriving, allow_unused=True)
    finally:
        torch.set_default_dtype(torch.float32)
    went = sum((x * g).sum() for x, g in zip([leaf, *sources], gradients, strict=True) if g is not None)
    assert torch.allclose(out, expected)
    assert torch.allclose(torch.as_tensor(went), (out * arriving).sum())


class Strange(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).logcumsumexp(dim=1)


class Unused(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        y.add_(1)
        return y


def test_a_batch_norm_behind_a_transposed_convolution_is_not_merged_into_it() -> None:
    model: Any = nn.Sequential(nn.ConvTranspose2d(3, 3, 2, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2)).eval()
    nn.init.uniform_(model[1].weight, 1, 9, generator=torch.Generator().manual_seed(0))
    images = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = Lrp(composite="epsilon").explain(model, images)
    leaf = images.requires_grad_()
    logits = model(leaf)
    (gradient,) = torch.autograd.grad(logits.amax(dim=1).sum(), leaf)
    expected = (images * gradient).sum(dim=1).detach().numpy()
    assert abs(found.maps - expected).max() < 1e-3 * abs(expected).max()


def test_functions_that_lose_relevance_are_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), Strange(), nn.Linear(4 * 36, 2)).eval().requires_grad_(False)
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not completeness(model, image).holds()
    assert leaks(model, image) == ["logcumsumexp in 'Strange'"]
    with pytest.raises(
        UnsupportedModelError, match=r"keep all relevance under LRP-0, got a share of .*: logcumsumexp in"
    ):
        Lrp().explain(model, image)


def test_results_of_changes_in_place_that_are_not_used_are_noticed() -> None:
    model = nn.Sequential(Unused(), nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(UnsupportedModelError, match="got other logits: a value is changed in place"):
        Lrp().explain(model, torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)))


def test_torchs_multi_head_attention_is_opened() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    model = nn.Sequential(nn.Flatten(2), layer, nn.Flatten(), nn.Linear(3 * 8, 2))
    image = torch.rand(1, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    measured = completeness(model.eval().requires_grad_(False), image)
    assert measured.ratio == pytest.approx(1, abs=1e-9)
    assert "scaled_dot_product_attention" in measured.names


def test_pixels_of_exactly_zero_get_flat_relevance() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 2, stride=2), nn.Flatten(), nn.Linear(8, 2))
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0] = 1
    found = explainers.create({"name": "lrp", "composite": "epsilon-plus-flat"}).explain(model, image, 0)
    blocks = found.maps.reshape(2, 2, 2, 2)
    assert (found.maps != 0).any()
    assert abs(blocks - blocks[:, :1, :, :1]).max() < 1e-6


class Inside(nn.Module):
    """Normalises and pads by itself before its first layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model(functional.pad((images - 0.5) / 0.25, (1, 1, 1, 1)))
        return out


@pytest.fixture
def inner() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2, bias=False))
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return model


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_flat_relevance_reaches_pixels_before_padding_and_scaling(inner: nn.Module) -> None:
    flat = explainers.create({"name": "lrp", "composite": {"first": "flat"}})
    found = flat.explain(Inside(inner), IMAGES, 1).maps
    expected = flat.explain(inner, functional.pad((IMAGES - 0.5) / 0.25, (1, 1, 1, 1)), 1).maps[:, 1:-1, 1:-1]
    assert abs(found - expected).max() < 1e-5 * abs(expected).max()


def test_padding_gets_nothing_in_the_box_since_it_can_be_nothing_else(inner: nn.Module) -> None:
    box = explainers.create({"name": "lrp", "composite": {"first": "box"}})
    assert box.explain(Inside(inner), IMAGES, 1).conserved == pytest.approx(1, abs=1e-3)


def test_epsilon_is_the_plain_gradient_times_input_where_all_is_linear() -> None:
    weight = drawn(2, 3, 3, 3)
    x = drawn(1, 3, 5, 5, seed=3)
    found = relevance(lambda v: functional.conv2d(v, weight), x, Composite(conv=Epsilon()))
    assert torch.allclose(found, relevance(lambda v: functional.conv2d(v, weight), x), atol=1e-3)
