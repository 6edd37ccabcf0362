import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from imgcls.augment.base import Displacement, Step
from imgcls.augment.displacement import Elastic, GridDistortion, OpticalDistortion, centred
from imgcls.augment.geometry import Perspective, RandomResizedCrop, Rotate, Rotate90, Scale, Shear, Translate
from imgcls.augment.warping import compose, warp

Apply = Callable[..., tuple[Tensor, Tensor | None]]
SIZE = (20, 28)
CPU = torch.device("cpu")
TOLERANCE = 2e-5  # of values from 0 to 1; places are reckoned in float32


def step(transform: Any, parameters: Tensor) -> Step:
    active = torch.ones(len(parameters), dtype=torch.bool)
    return Step(transform=transform, active=active, parameters=parameters.double())


def moved(images: Tensor, *steps: Step) -> Tensor:
    return warp(images, None, steps, compose(steps, (images.shape[2], images.shape[3]), len(images)), fill="zeros")[0]


def affine(images: Tensor, **changes: Any) -> Tensor:
    options: dict[str, Any] = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0]}
    return reference.affine(images, **(options | changes), interpolation=InterpolationMode.BILINEAR)


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        ({"name": "rotate", "degrees": [17, 17]}, {"angle": -17.0}),
        ({"name": "scale", "factor": [1.3, 1.3]}, {"scale": 1.3}),
        ({"name": "scale", "factor": [0.7, 0.7]}, {"scale": 0.7}),
        ({"name": "translate", "x": [0.25, 0.25], "y": [-0.1, -0.1]}, {"translate": [7.0, -2.0]}),
        ({"name": "shear", "x": [12, 12], "y": [-5, -5]}, {"shear": [12.0, -5.0]}),
    ],
)
def test_affine_transforms_are_those_of_torchvision(
    images: Tensor, apply: Apply, spec: dict[str, Any], changes: dict[str, Any]
) -> None:
    found, _ = apply([{**spec, "p": 1}], images)
    torch.testing.assert_close(found, affine(images, **changes), atol=TOLERANCE, rtol=0)


def test_rotation_goes_counter_clockwise_as_in_torchvision(images: Tensor, apply: Apply) -> None:
    found, _ = apply([{"name": "rotate", "degrees": [33, 33], "p": 1}], images)
    expected = reference.rotate(images, 33.0, interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_perspective_is_that_of_torchvision(images: Tensor) -> None:
    parameters = torch.rand(4, 8, generator=torch.Generator().manual_seed(1)) * 0.4
    half = torch.tensor([14.0, 10.0])
    signs = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for number, found in enumerate(moved(images, step(Perspective(distortion=0.4), parameters))):
        ends = half + half * signs * (1 - parameters[number].view(4, 2))
        starts = [[0, 0], [28, 0], [28, 20], [0, 20]]
        expected = reference.perspective(images[number], starts, ends.tolist())
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)  # its coefficients are float32


def test_flips_and_quarter_turns_move_pixels_exactly(apply: Apply) -> None:
    images = torch.rand(4, 1, 9, 9)
    assert torch.equal(apply([{"name": "flip-lr", "p": 1}], images)[0], images.flip(-1))
    assert torch.equal(apply([{"name": "flip-ud", "p": 1}], images)[0], images.flip(-2))
    turned = moved(images, step(Rotate90(), torch.tensor([[1.0], [1.9], [2.5], [3.9]])))
    for number, quarters in enumerate([1, 1, 2, 3]):
        assert torch.equal(turned[number], torch.rot90(images[number], quarters, (1, 2)))


def test_quarter_turns_of_oblong_images_are_cut_off(images: Tensor) -> None:
    found = moved(images, step(Rotate90(), torch.ones(4, 1)))
    expected = reference.rotate(images, 90.0, interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    assert torch.equal(moved(images, step(Rotate90(), torch.full((4, 1), 2.0))), images.flip(-1, -2))


@given(st.floats(-180, 180), st.integers(5, 40), st.integers(5, 40))
def test_the_inscribed_rectangle_touches_the_rim_and_stays_inside(degrees: float, height: int, width: int) -> None:
    matrix = Rotate(crop=True).matrices(torch.tensor([[degrees]]).double(), (height, width))[0, :2, :2]
    corners = matrix @ torch.tensor([[width / 2, width / 2], [height / 2, -height / 2]]).double()
    shares = corners.abs() / torch.tensor([[width / 2], [height / 2]])
    assert shares.max().item() == pytest.approx(1)


def test_a_window_is_enlarged_to_the_whole_image() -> None:
    ramp = centred((40, 40), CPU).permute(2, 0, 1).unsqueeze(0) / 100 + 0.5
    window = RandomResizedCrop(area=0.25, ratio=1, p=1)
    found = moved(ramp, step(window, torch.tensor([[0.25, 0.0, 0.25, 0.75]])))
    inner = ramp / 2 + 0.25 + torch.tensor([-0.05, 0.05]).view(1, 2, 1, 1)  # half as wide, 5 pixels off the centre
    torch.testing.assert_close(found, inner, atol=TOLERANCE, rtol=0)


def test_a_window_is_that_of_torchvision_but_for_its_rim(images: Tensor) -> None:
    window = RandomResizedCrop(area=0.25, ratio=1, p=1)
    found = moved(images, step(window, torch.tensor([[0.25, 0.0, 0.5, 1.0]] * 4)))
    wanted = reference.resized_crop(images, 10, 7, 10, 14, list(SIZE), antialias=False)
    inner = (..., slice(1, -1), slice(1, -1))  # torchvision repeats the rim of the window, which has neighbours here
    torch.testing.assert_close(found[inner], wanted[inner], atol=TOLERANCE, rtol=0)


def test_several_transforms_are_one_resampling_with_the_product_of_matrices(images: Tensor) -> None:
    angle, factor, x, y = math.radians(25), 1.2, 0.1, -0.2
    steps = [
        step(Rotate(), torch.full((4, 1), 25.0)),
        step(Scale(), torch.full((4, 1), factor)),
        step(Translate(), torch.tensor([[x, y]] * 4)),
    ]
    turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    shrink = torch.diag(torch.tensor([1 / factor, 1 / factor, 1]))
    shift = torch.tensor([[1, 0, -x * 28], [0, 1, -y * 20], [0, 0, 1]])
    product = (turn @ shrink @ shift).double()
    torch.testing.assert_close(compose(steps, SIZE, 4), product.expand(4, 3, 3), atol=1e-5, rtol=0)
    units = torch.diag(torch.tensor([14.0, 10.0, 1.0])).double()
    theta = (units.inverse() @ product @ units)[:2].expand(4, 2, 3).float()
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    expected = functional.grid_sample(images, grid, align_corners=False)
    torch.testing.assert_close(moved(images, *steps), expected, atol=TOLERANCE, rtol=0)


def test_transforms_happen_in_their_order(images: Tensor) -> None:
    turn, slant = step(Rotate(), torch.full((4, 1), 40.0)), step(Shear(), torch.tensor([[20.0, 0.0]] * 4))
    matrices = [first.matrices(torch.tensor(at), SIZE) for first, at in ((Rotate(), [[40.0]]), (Shear(), [[20.0, 0]]))]
    torch.testing.assert_close(compose([turn, slant], SIZE, 4)[:1], matrices[0] @ matrices[1], check_dtype=False)
    assert not torch.allclose(moved(images, turn, slant), moved(images, slant, turn), atol=0.01)


@pytest.mark.parametrize("kind", [Elastic(alpha=60, sigma=2), GridDistortion(), OpticalDistortion()])
def test_displacements_read_where_torchvisions_elastic_reads(images: Tensor, kind: Displacement) -> None:
    uniforms = torch.rand(4, kind.num_uniforms, generator=torch.Generator().manual_seed(2))
    parameters = kind.parameters(uniforms)
    found = moved(images, step(kind, parameters))
    shares = kind.field(parameters, SIZE, CPU) * torch.tensor([2 / 28, 2 / 20])
    assert shares.abs().amax((1, 2, 3)).min() > 0.01
    for number in range(4):
        expected = reference.elastic(images[number], shares[number : number + 1])
        torch.testing.assert_close(found[number], expected, atol=TOLERANCE, rtol=0)


def test_the_elastic_field_is_smoothed_noise_of_the_stated_size() -> None:
    field = Elastic().field(torch.tensor([[60.0, 5.0], [60.0, 5.0], [30.0, 5.0]]), (256, 256), CPU)
    assert torch.equal(field[0], field[1])
    torch.testing.assert_close(field[2], field[0] / 2)
    assert field[0].square().mean().sqrt().item() == pytest.approx(60 / (6 * 5), rel=0.2)
    assert (field[0, 1:] - field[0, :-1]).abs().max() < 0.2 * field[0].abs().max()


def test_a_grid_distortion_moves_knots_by_its_parameters_and_not_the_rim() -> None:
    parameters = torch.tensor([[0.2, -0.1]])
    field = GridDistortion(cells=2).field(parameters, (21, 31), CPU)[0]
    torch.testing.assert_close(field[10, 15], torch.tensor([0.2 * 31 / 2, -0.1 * 21 / 2]))
    torch.testing.assert_close(field[5, 15], field[10, 15] / 2)
    assert not field[[0, -1]].any()
    assert not field[:, [0, -1]].any()


def test_an_optical_distortion_has_its_factor_in_the_corner() -> None:
    field = OpticalDistortion().field(torch.tensor([[0.3]]), (101, 51), CPU)[0]
    radius = math.hypot(50, 25) / math.hypot(50.5, 25.5)
    torch.testing.assert_close(field[0, 0], 0.3 * radius**2 * torch.tensor([-25.0, -50.0]))


@pytest.mark.parametrize("fill", ["zeros", "border", "reflection"])
def test_fill_is_what_lies_outside(fill: str, apply: Apply) -> None:
    images = torch.arange(8.0).div(10).expand(1, 1, 8, 8)
    half = {"name": "translate", "x": [0.5, 0.5], "y": 0, "p": 1}
    found, _ = apply({"transforms": [half], "fill": fill}, images)
    row = [0.3, 0.2, 0.1, 0.0] if fill == "reflection" else [0.0] * 4
    torch.testing.assert_close(found[0, 0, 3], torch.tensor([*row, 0.0, 0.1, 0.2, 0.3]))


def test_masks_follow_and_end_at_the_rim(images: Tensor, apply: Apply) -> None:
    spec = {"transforms": [{"name": "rotate", "p": 1}, {"name": "elastic", "p": 1}], "fill": "border"}
    shares = images[:, 0]
    _, linear = apply(spec, images, shares)
    assert linear is not None
    same, _ = apply({**spec, "fill": "zeros"}, images)
    assert torch.equal(linear, same[:, 0])
    _, nearest = apply(spec, images, shares > 0.5)
    assert nearest is not None
    assert nearest.dtype == torch.bool
    _, seen = apply({**spec, "fill": "zeros"}, images, torch.ones(4, *SIZE))
    assert seen is not None
    assert not nearest[seen == 0].any()


def test_masks_turn_exactly(images: Tensor, apply: Apply) -> None:
    masks = (images[:, 0] * 200).to(torch.uint8)
    found, turned = apply(["flip-lr", {"name": "rotate-90", "p": 0}], images, masks)
    assert turned is not None
    assert torch.equal(turned, (found[:, 0] * 200).to(torch.uint8))
    assert not torch.equal(turned, masks)
