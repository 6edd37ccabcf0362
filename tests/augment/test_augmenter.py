import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imgcls.augment.augment import to_augment
from imgcls.augment.augmenter import Augmenter, augmenter
from imgcls.augment.base import Leaf, Transform, plan
from imgcls.augment.groups import KINDS, OneOf
from imgcls.augment.mixing import CutMix, MixUp
from imgcls.augment.table import Rows, repeated, table
from imgcls.core.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN: Any = [kind for kind in KINDS if kind.name not in {"one-of", "per-sample"}]
PRESETS = ["light", "medium", "strong", "trivial"]


def bound(spec: Any) -> Augmenter:
    return augmenter(to_augment(spec), classes=["good", "fray", "crack"])


def pictures(count: int, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, 24, 20, generator=torch.Generator().manual_seed(1))


def epoch(spec: Any, images: Tensor, size: int, start: int = 0) -> Tensor:
    own = bound(spec)
    parts = [
        own.apply(images[first : first + size], Rows.span(first, len(images[first : first + size]), seed=7, epoch=3))[0]
        for first in range(start, len(images), size)
    ]
    return torch.cat(parts)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_do_not_depend_on_batch_size_or_where_an_epoch_goes_on(preset: str, channels: int) -> None:
    images = pictures(24, channels)
    whole = epoch(preset, images, 8)
    torch.testing.assert_close(epoch(preset, images, 3), whole, atol=2e-6, rtol=0)
    assert torch.equal(epoch(preset, images, 8, start=16), whole[16:])
    assert not torch.equal(whole, images)
    assert whole.shape == images.shape
    assert whole.min() >= 0
    assert whole.max() <= 1


@pytest.mark.parametrize("preset", ["medium", "trivial"])
def test_draws_may_be_shared_out_in_any_way(preset: str) -> None:
    images, own = pictures(12), bound(preset)
    odd = np.arange(1, 12, 2)
    found, _ = own.apply(images[1::2], Rows(seed=7, epoch=3, numbers=odd))
    torch.testing.assert_close(found, epoch(preset, images, 12)[1::2], atol=2e-6, rtol=0)


def test_another_draw_or_epoch_of_the_same_image_differs() -> None:
    images, own = pictures(1).expand(2, 3, 24, 20), bound("strong")
    first, _ = own.apply(images, Rows.span(0, 2, seed=0, epoch=0))
    second, _ = own.apply(images, Rows.span(0, 2, seed=0, epoch=1))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", PLAIN)
def test_nothing_at_all_happens_at_chance_zero(kind: type[Transform]) -> None:
    images, targets = pictures(4), torch.eye(4)
    masks = images[:, 0] > 0.5
    rows = Rows.span(0, 4, seed=0, epoch=0)
    own = bound([{"name": kind.name, "p": 0.0}])
    found, kept = own.apply(images, rows, masks)
    assert kept is not None
    mixed, soft = own.mix(found, targets, rows)
    assert torch.equal(mixed, images)
    assert torch.equal(kept, masks)
    assert torch.equal(soft, targets)


@pytest.mark.parametrize("kind", PLAIN)
def test_images_that_a_transform_spares_keep_every_bit_and_inputs_stay(kind: type[Transform]) -> None:
    images = pictures(40)
    before = images.clone()
    rows = Rows.span(0, 40, seed=0, epoch=0)
    own = bound([{"name": kind.name, "p": 0.5}])
    found, _ = own.mix(own.apply(images, rows)[0], torch.eye(40), rows)
    spared = (table(0, 40, columns=own.parts[0].columns, seed=0, epoch=0)[:, 0] >= 0.5).numpy()
    assert torch.equal(found[spared], images[spared])
    assert torch.equal(images, before)
    changed = (found != images).flatten(1).any(1).numpy()
    assert changed[~spared].mean() > 0.9


def test_no_global_chance_is_used() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]  # noqa: NPY002
    for preset in PRESETS:
        epoch(preset, pictures(8), 8)
    images, rows = pictures(8), Rows.span(0, 8, seed=0, epoch=0)
    bound(["mixup", "cutmix"]).mix(images, torch.eye(8), rows)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # type: ignore[index]  # noqa: NPY002
    assert before[2] == random.getstate()


@given(
    st.sampled_from(PLAIN),
    st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=40, max_size=40),
)
def test_parameters_lie_in_their_ranges(kind: type[Leaf], values: list[float]) -> None:
    transform = kind()
    parameters = transform.parameters(torch.tensor([values[: transform.num_uniforms]]))
    assert parameters.shape == (1, transform.num_uniforms)
    for value, (low, high) in zip(parameters[0].tolist(), transform._ranges(), strict=True):
        assert low - 1e-12 <= value <= high + 1e-12


def test_one_of_a_group_happens_as_often_as_it_weighs() -> None:
    group = OneOf(
        transforms=[{"name": "flip-lr", "p": 0.6}, {"name": "hue", "p": 0}, {"name": "gamma", "p": 0.2}], p=0.5
    )
    uniforms = table(0, 20_000, columns=1 + group.num_uniforms, seed=0, epoch=0)
    active = torch.stack([step.active for step in plan([group], uniforms, torch.ones(20_000, dtype=torch.bool))])
    assert active.sum(0).max() == 1
    torch.testing.assert_close(active.float().mean(1), torch.tensor([0.375, 0.125]), atol=0.012, rtol=0)


def test_groups_may_stand_in_groups() -> None:
    inner = {"name": "one-of", "transforms": ["gaussian-blur", "jpeg"], "p": 1}
    group = OneOf(transforms=[inner, {"name": "gamma", "p": 1}], p=1)
    uniforms = table(0, 8000, columns=1 + group.num_uniforms, seed=0, epoch=0)
    steps = plan([group], uniforms, torch.ones(8000, dtype=torch.bool))
    shares = [step.active.float().mean().item() for step in steps]
    assert shares == pytest.approx([0.25, 0.25, 0.5], abs=0.02)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("side", [28, 120])
def test_no_bit_depends_on_the_size_of_the_batch(preset: str, side: int) -> None:
    images = torch.rand(64, 3, side, side, generator=torch.Generator().manual_seed(1))
    assert torch.equal(epoch(preset, images, 8), epoch(preset, images, 64))


def test_no_bit_depends_on_the_number_of_threads() -> None:
    images = torch.rand(12, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    alone = epoch("strong", images, 12)
    try:
        torch.set_num_threads(2)
        assert torch.equal(epoch("strong", images, 12), alone)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(("dtype", "levels"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_images_may_come_as_bytes_and_leave_normalised(dtype: torch.dtype, levels: int) -> None:
    raw = (pictures(6) * levels).to(dtype)
    own, rows = bound("medium"), Rows.span(0, 6, seed=0, epoch=0)
    wanted, _ = own.apply(raw.float() / levels, rows)
    found, _ = own.apply(raw, rows, finish=lambda part: part.mul_(2), layout=torch.channels_last)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, wanted * 2)


def test_two_views_of_the_same_rows_move_alike() -> None:
    images, rows, own = pictures(6), Rows.span(0, 6, seed=0, epoch=0), bound(["rotate", "elastic"])
    both, _ = own.apply(images, rows)
    assert torch.equal(own.apply(images.flip(1), rows)[0], both.flip(1))


def test_policies_choose_by_class() -> None:
    own = bound(
        {"default": "none", "fray": ["flip-lr"], "crack": [{"name": "brightness", "factor": [0.5, 0.5], "p": 1}]}
    )
    images, labels = pictures(60), np.arange(60) % 3
    found, _ = own.apply(images, Rows.span(0, 60, seed=0, epoch=0, labels=labels))
    assert torch.equal(found[labels == 0], images[labels == 0])
    torch.testing.assert_close(found[labels == 2], images[labels == 2] / 2)
    flipped = (found == images.flip(-1)).flatten(1).all(1).numpy()
    assert 5 <= flipped[labels == 1].sum() <= 15
    assert not flipped[labels != 1].any()


def test_policies_need_labels_and_know_their_classes() -> None:
    own = bound({"default": "none", "fray": "light"})
    with pytest.raises(DataError, match="'labels' must be given where policies differ by class"):
        own.apply(pictures(2), Rows.span(0, 2, seed=0, epoch=0))
    with pytest.raises(ConfigError, match=r"'augment.frey' must be 'default' or a class; did you mean 'fray'\?"):
        bound({"default": "none", "frey": "light"})


def test_repeated_draws_get_their_own_augmentation_whatever_their_class() -> None:
    half, double = ([{"name": "brightness", "factor": [value] * 2, "p": 1}] for value in (0.5, 0.25))
    value = to_augment({"default": "none", "fray": half})
    own = augmenter(value, classes=["good", "fray"], repeats=to_augment(double))
    images, again = pictures(4), repeated(np.array([5, 2, 5, 2]))
    rows = Rows.span(0, 4, seed=0, epoch=0, labels=np.array([0, 1, 0, 1]), repeated=again)
    found, _ = own.apply(images, rows)
    factors = torch.tensor([1, 0.5, 0.25, 0.25]).view(-1, 1, 1, 1)
    torch.testing.assert_close(found, images * factors)
    with pytest.raises(DataError, match="'repeated' must be given where repeated draws differ"):
        own.apply(images, Rows.span(0, 4, seed=0, epoch=0, labels=np.array([0, 1, 0, 1])))


@given(st.lists(st.integers(0, 5), max_size=30))
def test_draws_are_repeated_where_their_record_came_before(draws: list[int]) -> None:
    wanted = [record in draws[:number] for number, record in enumerate(draws)]
    assert repeated(np.array(draws, np.int64)).tolist() == wanted


def test_mixup_mixes_images_and_targets_by_the_same_share() -> None:
    images, targets = torch.eye(6).view(6, 1, 6, 1).expand(6, 1, 6, 4), torch.eye(6)
    own = bound([{"name": "mixup", "alpha": 1}])
    assert own.mixes
    mixed, soft = own.mix(images, targets, Rows.span(0, 6, seed=0, epoch=0))
    torch.testing.assert_close(mixed[:, 0, :, 0], soft)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    assert ((soft > 0).sum(1) == 2).all()


def test_cutmix_gives_targets_the_shares_of_pixels() -> None:
    images, targets = torch.eye(6).view(6, 6, 1, 1).expand(6, 6, 20, 30), torch.eye(6)
    mixed, soft = bound(["cutmix"]).mix(images, targets, Rows.span(0, 6, seed=0, epoch=0))
    assert ((mixed == 0) | (mixed == 1)).all()
    torch.testing.assert_close(mixed.mean((2, 3)), soft)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_of_mixup_are_beta_distributed(alpha: float) -> None:
    transform = MixUp(alpha=alpha)
    uniforms = table(0, 5000, columns=2, seed=0, epoch=0)
    _, shares = transform._mix(torch.zeros(5000, 1, 1, 1), torch.zeros(5000, 1, 1, 1), transform.parameters(uniforms))
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_a_batch_of_one_is_mixed_with_nothing_else() -> None:
    images, rows = pictures(1), Rows.span(0, 1, seed=0, epoch=0)
    for spec in (MixUp(), CutMix()):
        mixed, soft = bound([spec]).mix(images, torch.ones(1, 1), rows)
        torch.testing.assert_close(mixed, images)
        assert soft.item() == 1


@pytest.mark.parametrize(
    ("images", "count", "masks", "message"),
    [
        (torch.zeros(2, 4, 5, 5), 2, None, "'images' must be float32, uint8 or uint16 of shape"),
        (torch.zeros(2, 3, 5, 5, dtype=torch.int16), 2, None, "'images' must be float32, uint8 or uint16 of shape"),
        (torch.zeros(2, 3, 5, 5), 3, None, "'rows' must be 2, one an image, got 3"),
        (torch.zeros(2, 3, 5, 5), 2, torch.zeros(2, 5, 6), r"'masks' must have shape \(2, 5, 5\)"),
    ],
)
def test_batches_that_do_not_fit_are_refused(images: Tensor, count: int, masks: Tensor | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bound("light").apply(images, Rows.span(0, count, seed=0, epoch=0), masks)
