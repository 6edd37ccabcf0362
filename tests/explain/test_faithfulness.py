import math
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.core.errors import ConfigError
from imgcls.explain.base import Contrast, Explainer, Score, scores
from imgcls.explain.faithfulness import answering, average_drop, max_sensitivity, perturbed, road
from imgcls.explain.imputation import imputed
from imgcls.explain.sanity import random_logit, randomised, rank_correlation
from imgcls.explain.sparseness import entropy, gini
from imgcls.models.base import Classifier


def total(images: Tensor, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = images.sum(dim=(1, 2, 3)).numpy().astype(np.float64)
    return found


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


# Insertion and deletion, beside torch-cam's own examples


@pytest.mark.parametrize(
    ("pixels", "steps", "deletion", "insertion"),
    [((0.4, 0.3, 0.2, 0.1), 2, [1, 0.3, 0], [0, 0.7, 1]), ((0.3, 0.25, 0.2, 0.15, 0.1), 3, [1, 0.45, 0.1, 0], None)],
)
def test_curves_are_those_of_torch_cam(
    pixels: tuple[float, ...], steps: int, deletion: list[float], insertion: list[float] | None
) -> None:
    images = row(*pixels)
    found = perturbed(total, images, images[:, 0].numpy(), steps=steps, baseline="zero")
    np.testing.assert_allclose(found.deletion[0], deletion, atol=1e-12)
    np.testing.assert_allclose(found.insertion[0], insertion or 1 - np.array(deletion), atol=1e-12)
    assert found.deletion_auc.item() == pytest.approx(0.4 if steps == 2 else 0.41)
    assert found.insertion_auc.item() == pytest.approx(0.6 if steps == 2 else 0.59)


def test_average_drop_is_what_the_relevant_part_loses() -> None:
    images = row(0.4, 0.3, 0.2, 0.1)
    drop, gained = average_drop(total, images, np.array([[[2.0, 0, 0, -3.0]]]))
    assert drop == pytest.approx(0.6)
    assert gained == 0
    assert average_drop(total, row(0.9, -0.4), np.array([[[1.0, 0]]])) == (0, 1)
    both = torch.cat([row(0.6, 0.4), row(0.9, -0.4)])
    drop, gained = average_drop(total, both, np.array([[[1.0, 0.5]], [[1.0, 0]]]), batch_size=1)
    assert drop == pytest.approx(0.1)
    assert gained == 0.5


@pytest.mark.parametrize("baseline", ["blur", "mean", "zero"])
def test_images_are_asked_as_in_one_batch_and_both_ends_are_there(baseline: str) -> None:
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = images.sum(dim=1).numpy()
    one, many = (perturbed(total, images, maps, steps=4, baseline=baseline, batch_size=size) for size in (2, 9))
    np.testing.assert_allclose(one.deletion, many.deletion, rtol=1e-6)
    np.testing.assert_allclose(one.deletion[:, 0], one.insertion[:, -1])
    np.testing.assert_allclose(one.deletion[:, -1], one.insertion[:, 0])
    assert one.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_a_constant_image_has_no_other_baseline_but_zero() -> None:
    images = torch.full((1, 3, 6, 9), 0.7)
    maps = np.random.default_rng(0).random((1, 6, 9))
    for baseline in ("blur", "mean"):
        curve = perturbed(total, images, maps, baseline=baseline).deletion
        np.testing.assert_allclose(curve, np.full((1, 21), 3 * 6 * 9 * 0.7), rtol=1e-5)


def test_equal_pixels_leave_in_no_order_of_place() -> None:
    images = torch.zeros(64, 1, 4, 4)
    images[:, :, 0] = 1  # all that counts is in the first row
    curve = perturbed(total, images, np.zeros((64, 4, 4)), steps=4, baseline="zero").deletion.mean(axis=0)
    np.testing.assert_allclose(curve, [4, 3, 2, 1, 0], atol=0.35)


def test_answers_are_probabilities_of_the_class(small: Classifier, images: Tensor) -> None:
    with torch.no_grad():
        probs = small(images).softmax(dim=1).numpy()
    found = answering(small, [0, 1, 2, 3])(images[[3, 1]], np.array([3, 1]))
    np.testing.assert_allclose(found, [probs[3, 3], probs[1, 1]], rtol=1e-5)
    each = answering(small, [2] * 4, multilabel=True)(images, np.arange(4))
    with torch.no_grad():
        np.testing.assert_allclose(each, small(images)[:, 2].sigmoid().numpy(), rtol=1e-5)


def test_one_logit_speaks_for_both_classes(images: Tensor) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 1))
    both = answering(model, [0] * 4)(images, np.arange(4)) + answering(model, [1] * 4)(images, np.arange(4))
    np.testing.assert_allclose(both, 1, rtol=1e-6)


# ROAD


def test_filled_pixels_solve_their_equations() -> None:
    rng = np.random.default_rng(0)
    image, removed = rng.random((2, 6, 7)), rng.random((6, 7)) < 0.6
    filled = imputed(image, removed)
    np.testing.assert_array_equal(filled[:, ~removed], image[:, ~removed])
    for at, place in zip(filled[:, removed].T, np.argwhere(removed), strict=True):
        near = [
            (1 / 6 if 0 in (down, right) else 1 / 12, filled[:, place[0] + down, place[1] + right])
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if (down or right) and 0 <= place[0] + down < 6 and 0 <= place[1] + right < 7
        ]
        mean = sum(weight * value for weight, value in near) / sum(weight for weight, _ in near)
        np.testing.assert_allclose(at, mean)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of the library
def test_filling_is_that_of_pytorch_grad_cam() -> None:
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    rng = np.random.default_rng(1)
    image, removed = rng.random((3, 20, 16)).astype(np.float32), rng.random((20, 16)) < 0.5
    expected = NoisyLinearImputer(noise=0)(torch.tensor(image), torch.tensor(~removed).float())
    np.testing.assert_allclose(imputed(image, removed), expected.numpy(), atol=1e-5)


def test_filling_keeps_constant_images_and_images_without_holes() -> None:
    image = np.full((1, 5, 5), 0.3)
    np.testing.assert_allclose(imputed(image, np.eye(5, dtype=np.bool_)), image)
    np.testing.assert_allclose(imputed(image, np.ones((5, 5), np.bool_)), image)
    np.testing.assert_array_equal(imputed(image, np.zeros((5, 5), np.bool_)), image)


def test_road_is_above_zero_for_the_right_map_and_below_for_its_opposite() -> None:
    images = torch.zeros(6, 1, 12, 12)
    images[:, :, 4:7, 4:7] = 1

    def highest(asked: Tensor, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = asked.amax(dim=(1, 2, 3)).numpy().astype(np.float64)
        return found

    maps = images[:, 0].numpy()
    right, opposite = (road(highest, images, sign * maps, noise=0.0) for sign in (1, -1))
    assert (right > 0.2).all()
    np.testing.assert_allclose(opposite, -right, atol=0.2)
    assert np.array_equal(road(highest, images, maps, seed=1), road(highest, images, maps, seed=1))


# Sparseness and stability


def test_k_of_n_equal_pixels_have_known_gini_and_entropy() -> None:
    maps = np.zeros((3, 5, 4))
    for at, count in enumerate((1, 5, 20)):
        maps[at].flat[:count] = -2.5
    np.testing.assert_allclose(gini(maps), [1 - count / 20 for count in (1, 5, 20)], atol=1e-12)
    np.testing.assert_allclose(entropy(maps), [math.log(count) for count in (1, 5, 20)], atol=1e-12)


def test_zero_maps_have_no_sparseness() -> None:
    assert np.isnan([gini(np.zeros((1, 2, 2))), entropy(np.zeros((1, 2, 2)))]).all()


@attrs.frozen(kw_only=True)
class TimesGradient(Explainer):
    """The simplest signed map that depends on weights and class."""

    def attribute(self, model: torch.nn.Module, images: Tensor, target: Score) -> Tensor:
        (gradient,) = torch.autograd.grad(scores(model(images), target).sum(), images)
        return (gradient * images).sum(dim=1)


@attrs.frozen(kw_only=True)
class Brightness(Explainer):
    """A map of the image alone."""

    def attribute(self, model: torch.nn.Module, images: Tensor, target: Score) -> Tensor:
        return images.sum(dim=1)


@pytest.fixture
def explainer() -> Explainer:
    return TimesGradient()


def test_sensitivity_is_the_largest_relative_change(explainer: Explainer, small: Classifier, images: Tensor) -> None:
    few, many = (max_sensitivity(explainer, small, images, 1, samples=count) for count in (1, 4))
    assert (many >= few).all()
    near = max_sensitivity(explainer, small, images, 1, radius=1e-4, samples=4)
    assert (near < many).all()


# Sanity checks


def test_maps_of_a_shuffled_model_differ_block_by_block_from_the_head(
    explainer: Explainer, small: Classifier, images: Tensor
) -> None:
    before = {name: value.clone() for name, value in small.state_dict().items()}
    table = randomised(explainer, small, images, 1, seed=2)
    assert table["block"].tolist()[0] == "head"
    assert len(table) == 4  # the head and the three blocks
    assert (table["similarity"] < 0.9).all()
    assert table["similarity"].iloc[-1] < 0.5
    assert (table["n"] == 4).all()
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_another_class_has_another_map(explainer: Explainer, small: Classifier, images: Tensor) -> None:
    found = random_logit(explainer, small, images, 1)
    assert (found < 0.99).all()


def test_a_method_that_sees_neither_weights_nor_class_is_found_out(small: Classifier, images: Tensor) -> None:
    blind = Brightness()
    np.testing.assert_allclose(random_logit(blind, small, images), 1)
    np.testing.assert_allclose(randomised(blind, small, images)["similarity"], 1)


def test_checks_keep_what_was_asked_for(explainer: Explainer, small: Classifier, images: Tensor) -> None:
    contrast = Contrast(of=1, against=2)
    assert (max_sensitivity(explainer, small, images, contrast, radius=1e-6, samples=1) < 1e-3).all()
    assert len(randomised(explainer, small, images, contrast)) == 4
    with pytest.raises(ConfigError, match="'target' must be None or classes"):
        random_logit(explainer, small, images, lambda logits: logits[:, 0])


def test_rank_correlation_is_that_of_scipy() -> None:
    from scipy.stats import spearmanr

    first, second = np.random.default_rng(0).integers(-3, 4, (2, 2, 5, 6)).astype(np.float64)
    expected = [spearmanr(np.abs(a).ravel(), np.abs(b).ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected)
    assert np.isnan(rank_correlation(np.ones((1, 2, 2)), first[:1, :2, :2])).all()


# Refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "'steps' must be a whole number of at least 1, got 0"),
        ({"baseline": "black"}, "'baseline' must be 'blur', 'mean' or 'zero', got 'black'"),
    ],
)
def test_wrong_options_of_curves_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        perturbed(total, row(1, 2), np.ones((1, 1, 2)), **options)


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'maps' must be one of the size of each image, \(1, 1, 2\), got \(1, 2\)"):
        perturbed(total, row(1, 2), np.ones((1, 2)))
    with pytest.raises(ConfigError, match="'maps' must be finite"):
        road(total, row(1, 2), np.full((1, 1, 2), np.nan))
    with pytest.raises(ConfigError, match="'fractions' must be shares"):
        road(total, row(1, 2), np.ones((1, 1, 2)), fractions=(1.0,))
    with pytest.raises(ConfigError, match="'second' must have the size"):
        rank_correlation(np.ones((1, 2, 2)), np.ones((1, 2, 3)))
