import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from imgcls.augment.base import Intensity
from imgcls.augment.colour import Brightness, Contrast, Gamma, Hue, Saturation
from imgcls.augment.filters import Emboss, GaussianBlur, MedianBlur, MotionBlur, Sharpen
from imgcls.augment.noise import Erasing, GaussianNoise
from imgcls.augment.per_image import Clahe, Jpeg, PerSample, to_bytes
from imgcls.core.errors import DataError

TOLERANCE = 3e-6  # of values from 0 to 1: float32, sums in another order


def fixed(values: list[float]) -> Tensor:
    return torch.tensor([values]).T.double()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (Brightness(), [0.5, 1.0, 1.3, 1.8], reference.adjust_brightness),
        (Contrast(), [0.5, 1.0, 1.3, 1.8], reference.adjust_contrast),
        (Saturation(), [0.0, 1.0, 1.3, 1.8], reference.adjust_saturation),
        (Hue(), [-0.5, -0.1, 0.0, 0.3], reference.adjust_hue),
        (Sharpen(), [0.0, 1.0, 1.3, 2.5], reference.adjust_sharpness),
    ],
)
def test_each_image_changes_as_in_torchvision_by_its_own_factor(
    images: Tensor, channels: int, kind: Intensity, values: list[float], expected: Callable[..., Tensor]
) -> None:
    images = images[:, :channels]
    found = kind.change(images, fixed(values))
    for number, value in enumerate(values):
        wanted = expected(images[number], value)
        torch.testing.assert_close(found[number], wanted, atol=TOLERANCE, rtol=0)


def test_hue_leaves_grey_as_it_is() -> None:
    grey = torch.rand(1, 1, 4, 4).expand(1, 3, 4, 4)
    torch.testing.assert_close(Hue().change(grey, fixed([0.2])), grey)


def test_gamma_is_a_power_drawn_on_a_logarithmic_scale(images: Tensor) -> None:
    parameters = Gamma(gamma=[0.5, 2]).parameters(torch.tensor([[0.0], [0.25], [0.5], [0.75]]))
    found = Gamma().change(images, parameters)
    for number, gamma in enumerate([0.5, 0.5**0.5, 1.0, 2**0.5]):
        wanted = reference.adjust_gamma(images[number], gamma)
        torch.testing.assert_close(found[number], wanted, atol=TOLERANCE, rtol=0)


def test_gaussian_blur_is_that_of_torchvision(images: Tensor) -> None:
    sigmas = [0.3, 1.0, 1.7, 2.0]
    found = GaussianBlur(sigma=[0.1, 2]).change(images, fixed(sigmas))
    for number, sigma in enumerate(sigmas):
        wanted = reference.gaussian_blur(images[number], [13, 13], [sigma, sigma])
        torch.testing.assert_close(found[number], wanted, atol=TOLERANCE, rtol=0)


def test_blur_of_tiny_images_ends_at_their_rim() -> None:
    images = torch.rand(2, 1, 4, 3)
    assert GaussianBlur(sigma=5).change(images, fixed([5.0, 5.0])).shape == images.shape
    assert MotionBlur(length=9).change(images, torch.tensor([[9.0, 30.0]] * 2)).shape == images.shape


@pytest.mark.parametrize(("degrees", "axis"), [(0.0, 3), (90.0, 2)])
def test_motion_blur_is_the_mean_along_its_line(images: Tensor, degrees: float, axis: int) -> None:
    found = MotionBlur(length=[3, 5]).change(images, torch.tensor([[5.0, degrees]] * 4).double())
    wanted = ndimage.uniform_filter1d(images.numpy(), 5, axis=axis, mode="mirror")
    torch.testing.assert_close(found, torch.from_numpy(wanted), atol=TOLERANCE, rtol=0)


def test_motion_blur_goes_in_the_direction_of_its_angle() -> None:
    point = torch.zeros(1, 1, 15, 15)
    point[0, 0, 7, 7] = 1
    found = MotionBlur(length=7).change(point, torch.tensor([[7.0, 45.0]]).double())[0, 0]
    assert found[5, 9] > 0.1  # up and to the right
    assert found[9, 9] == 0
    assert found.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("size", [3, 5])
def test_median_blur_takes_the_median(images: Tensor, size: int) -> None:
    found = MedianBlur(size=size).change(images, torch.empty(4, 0))
    wanted = ndimage.median_filter(images.numpy(), (1, 1, size, size), mode="nearest")
    assert torch.equal(found, torch.from_numpy(wanted))


def test_emboss_adds_the_slope_to_the_lower_right(images: Tensor) -> None:
    found = Emboss().change(images, torch.tensor([[0.4, 0.5]] * 4).double())
    kernel = np.eye(1, 9, 4).reshape(3, 3) + 0.4 * np.array([[-1.5, -0.5, 0], [-0.5, 0, 0.5], [0, 0.5, 1.5]])
    wanted = ndimage.correlate(images.double().numpy(), kernel[None, None], mode="mirror").clip(0, 1)
    torch.testing.assert_close(found, torch.from_numpy(wanted).float(), atol=TOLERANCE, rtol=0)


def test_clahe_without_parts_and_limit_equalises_the_histogram() -> None:
    images = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(3)) ** 2
    levels = to_bytes(images.numpy())
    order = np.searchsorted(np.sort(levels.ravel()), levels, side="right") / levels.size
    found = Clahe(grid=1).change(images, fixed([100.0])).numpy()
    difference = found - images.numpy() + levels / 255 - order
    assert np.abs(difference).max() < 2.5 / 255  # whole levels


def test_clahe_of_colours_changes_all_channels_by_what_the_luminance_gains(images: Tensor) -> None:
    soft = images * 0.2 + 0.4
    gained = Clahe().change(soft, fixed([2.0] * 4)) - soft
    inside = ((gained + soft) % 1 > 0).all(1)
    same = (gained - gained[:, :1]).abs().amax(1) < 1e-6
    assert same[inside].all()
    assert gained.std() > 0.01


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_jpeg_is_that_of_pillow(channels: int, mode: str) -> None:
    smooth = torch.linspace(0, 1, 64).view(1, 1, 1, 64) * torch.linspace(0.2, 1, 48).view(1, 1, 48, 1)
    images = torch.cat([smooth, 1 - smooth, smooth.flip(3)], dim=1)[:, :channels].repeat(2, 1, 1, 1)
    found = Jpeg().change(images, fixed([30.0, 90.0]))
    for number, quality in enumerate([30, 90]):
        file = io.BytesIO()
        pixels = to_bytes(images[number].permute(1, 2, 0).numpy())
        Image.fromarray(pixels.squeeze(), mode=None).save(file, "JPEG", quality=quality)
        wanted = np.asarray(Image.open(file).convert(mode), np.float32).reshape(pixels.shape) / 255
        difference = np.abs(found[number].permute(1, 2, 0).numpy() - wanted)
        assert difference.mean() < 1 / 255
        assert difference.max() < 8 / 255  # decoders interpolate colours in their own ways
    assert (found[0] - images[0]).abs().mean() > (found[1] - images[1]).abs().mean()


def test_noise_has_its_deviation_and_depends_on_its_key() -> None:
    images = torch.full((3, 3, 64, 64), 0.5)
    found = GaussianNoise().change(images, torch.tensor([[0.05, 1], [0.1, 2], [0.05, 1]]).double())
    assert torch.equal(found[0], found[2])
    assert torch.equal(GaussianNoise().change(images[1:2], torch.tensor([[0.1, 2]]).double()), found[1:2])
    deviations = (found - 0.5).std((1, 2, 3))
    torch.testing.assert_close(deviations, torch.tensor([0.05, 0.1, 0.05]), rtol=0.03, atol=0)
    correlation = torch.corrcoef(found[:2].flatten(1))[0, 1]
    assert correlation.abs() < 0.03


def test_erasing_covers_a_rectangle_of_its_area_with_the_mean(images: Tensor) -> None:
    parameters = torch.tensor([[0.25, 0.0, 0.0, 1.0], [0.25, math.log(4), 0.5, 0.5]] * 2).double()
    found = Erasing().change(images, parameters)
    mean = images.mean((2, 3), keepdim=True)
    assert torch.equal(found[0, :, 10:, :14], mean[0].expand(3, 10, 14))
    assert torch.equal(found[0, :, :10], images[0, :, :10])
    assert torch.equal(found[1, :, 7:12], mean[1].expand(3, 5, 28))
    assert (Erasing(value=0.25).change(images, parameters)[0, :, 10:, :14] == 0.25).all()


def test_erasing_is_that_of_torchvision(images: Tensor) -> None:
    found = Erasing(value=0.25).change(images, torch.tensor([[0.25, 0.0, 0.5, 0.0]] * 4).double())
    wanted = reference.erase(images, 0, 7, 10, 14, torch.tensor(0.25))
    assert torch.equal(found, wanted)


def test_functions_of_the_user_get_bytes_and_a_generator_of_their_own(images: Tensor, apply: Any) -> None:
    def tint(image: np.ndarray[Any, np.dtype[np.uint8]], rng: np.random.Generator) -> Any:
        assert image.dtype == np.uint8
        assert image.shape == (20, 28, 3)
        return np.full_like(image, rng.integers(256))

    whole, _ = apply([PerSample(function=tint)], images)
    late, _ = apply([PerSample(function=tint)], images[2:], start=2)
    assert torch.equal(whole[2:], late)
    assert len(whole.unique()) == 4


def test_functions_that_change_the_shape_are_refused(images: Tensor, apply: Any) -> None:
    with pytest.raises(
        DataError, match=r"'<lambda>' must return a uint8 array of shape \(20, 28, 3\), got uint8 \(10,"
    ):
        apply([PerSample(function=lambda image, _: image[::2])], images)
