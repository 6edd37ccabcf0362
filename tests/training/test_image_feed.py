from collections.abc import Callable, Iterator

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from imgcls.augment.augment import to_augment
from imgcls.augment.augmenter import augmenter
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec
from imgcls.models.base import Classifier
from imgcls.models.freezing import freeze
from imgcls.models.small_cnn import SmallCnn
from imgcls.runtime.batches import Batches
from imgcls.runtime.device import Runtime
from imgcls.runtime.ranks import Ranks
from imgcls.runtime.sources import open_source
from imgcls.testing import blobs, write_image_folder
from imgcls.training.feature_feed import FeatureFeed
from imgcls.training.feeding import drawn
from imgcls.training.image_feed import ImageFeed

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = ImageSpec(size=16, channels=1, mean=0.5, std=0.25)
ORDER = np.random.default_rng(0).integers(0, 40, 48)  # records repeat


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = write_image_folder(tmp_path_factory.mktemp("images"), blobs(groups=10, per_group=4, size=20))
    return Dataset.from_folder(folder)


@pytest.fixture
def feed(data: Dataset) -> Callable[..., ImageFeed]:
    def make(mode: str = "disk", workers: int = 1, augment: str = "medium", **changes: object) -> ImageFeed:
        batches = Batches.over(open_source(data, SPEC, mode=mode, workers=workers), Runtime())
        own = augmenter(to_augment(augment), classes=data.classes)
        base = ImageFeed(
            batches=batches,
            seen=batches,
            targets=data.labels,
            num_classes=2,
            augmenter=own,
            ranks=Ranks(),
            seed=3,
            view_seed=4,
        )
        return attrs.evolve(base, **changes)  # type: ignore[arg-type]

    return make


def steps(size: int, order: NDArray[np.int64] = ORDER) -> list[NDArray[np.int64]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def pixels(feed: ImageFeed, size: int = 8, *, epoch: int = 1, skip: int = 0) -> torch.Tensor:
    return torch.cat([fed.inputs for fed in feed.each(steps(size), epoch, skip=skip)])


@pytest.mark.parametrize("augment", ["light", "medium", "strong", "trivial"])
def test_pixels_do_not_depend_on_the_size_of_batches(augment: str, feed: Callable[..., ImageFeed]) -> None:
    own = feed(augment=augment)
    assert torch.equal(pixels(own, 8), pixels(own, 48))


@pytest.mark.parametrize("workers", [1, 2])
def test_pixels_do_not_depend_on_where_and_by_how_many_images_are_decoded(
    workers: int, feed: Callable[..., ImageFeed]
) -> None:
    assert torch.equal(pixels(feed()), pixels(feed("stream", workers)))


def test_pixels_after_an_interruption_are_those_without_it(feed: Callable[..., ImageFeed]) -> None:
    whole = pixels(feed())
    for skip in (1, 4):
        assert torch.equal(pixels(feed(), skip=skip), whole[8 * skip :])


def test_two_processes_see_together_what_one_sees(feed: Callable[..., ImageFeed]) -> None:
    shares = [feed(ranks=Ranks(rank=rank, world=2)).each(steps(8), 1, skip=0) for rank in (0, 1)]
    together = torch.cat([torch.cat([one.inputs, other.inputs]) for one, other in zip(*shares, strict=True)])
    assert torch.equal(together, pixels(feed()))


def test_another_epoch_and_another_draw_look_different(feed: Callable[..., ImageFeed]) -> None:
    own = feed()
    assert not torch.equal(pixels(own, epoch=1), pixels(own, epoch=2))
    twice = np.flatnonzero(np.bincount(ORDER).argmax() == ORDER)[:2]
    first, second = pixels(own)[twice]
    assert not torch.equal(first, second)


def test_without_augmentation_images_are_only_normalised(data: Dataset, feed: Callable[..., ImageFeed]) -> None:
    found = pixels(feed(augment="none"))
    raw = np.stack([data.pixels(position, SPEC) for position in ORDER.tolist()]).astype(np.float64) / 255
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), (raw - 0.5) / 0.25, atol=1e-5)


def test_mixed_images_have_shares_of_classes_as_targets(feed: Callable[..., ImageFeed]) -> None:
    fed = next(feed(augmenter=augmenter(to_augment(["mixup"]), classes=["a", "b"])).each(steps(8), 0, skip=0))
    assert fed.targets.shape == (8, 2)
    torch.testing.assert_close(fed.targets.sum(1), torch.ones(8))


def test_a_share_knows_which_draws_it_has_and_how_often_they_came_before() -> None:
    draws = [np.array([5, 3, 5, 8]), np.array([3, 5, 7, 7])]
    whole = drawn(draws, Ranks())
    assert [part.times.tolist() for part in whole] == [[0, 0, 1, 0], [1, 2, 0, 1]]
    assert [part.numbers.tolist() for part in whole] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    halves = [drawn(draws, Ranks(rank=rank, world=2)) for rank in (0, 1)]
    times = [part.times.tolist() for parts in zip(*halves, strict=True) for part in parts]
    assert times == [[0, 0], [1, 0], [1, 2], [0, 1]]


# Views and features


def network() -> Classifier:
    model = SmallCnn(base=4, depth=2).build(2, in_channels=1, image_size=(16, 16), seed=1)
    freeze(model, "head")
    return model


def each_view(own: ImageFeed) -> Iterator[tuple[int, torch.Tensor]]:
    for epoch in range(4):
        for fed in own.each(steps(8), epoch, skip=0):
            yield from zip(fed.positions.tolist(), fed.inputs, strict=True)


def test_a_record_has_as_many_pictures_as_it_has_views(feed: Callable[..., ImageFeed]) -> None:
    seen: dict[int, set[bytes]] = {}
    for position, image in each_view(feed(views=3)):
        seen.setdefault(position, set()).add(image.contiguous().numpy().tobytes())
    assert max(map(len, seen.values())) == 3


@pytest.mark.parametrize(("augment", "views"), [("none", None), ("medium", 3)])
def test_features_are_those_of_the_images_that_would_have_been_fed(
    augment: str, views: int | None, feed: Callable[..., ImageFeed]
) -> None:
    own, model, every = feed(augment=augment, views=views), network(), np.arange(40)
    cached = own.prepared(model, every, every)
    assert isinstance(cached, FeatureFeed)
    for epoch in range(3):
        for one, other in zip(own.each(steps(8), epoch, skip=0), cached.each(steps(8), epoch, skip=0), strict=True):
            assert one.positions.tolist() == other.positions.tolist()
            torch.testing.assert_close(other.inputs, model.body(one.inputs), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(cached.logits(model, other.inputs), own.logits(model, one.inputs))
    torch.testing.assert_close(
        cached.predict(model, every, batch_size=8), own.predict(model, every, batch_size=8), rtol=1e-5, atol=1e-6
    )


def test_features_are_computed_once_for_all(
    data: Dataset, feed: Callable[..., ImageFeed], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, every = network(), np.arange(40)
    feed(augment="none").prepared(model, every[:10], every[10:])
    monkeypatch.setattr(type(model.body), "forward", lambda *_: pytest.fail("computed anew"))
    assert isinstance(feed(augment="none").prepared(model, every, every[:5]), FeatureFeed)


def test_other_weights_have_other_features(feed: Callable[..., ImageFeed]) -> None:
    one, other, every = network(), network(), np.arange(40)
    with torch.no_grad():
        next(other.body.parameters()).add_(0.1)
    found = [feed(augment="none").prepared(model, every, every) for model in (one, other)]
    assert all(isinstance(each, FeatureFeed) for each in found)
    values = [next(each.each(steps(8), 0, skip=0)).inputs for each in found]
    assert not torch.equal(*values)


@pytest.mark.parametrize("changes", [{"caches": False}, {"augment": "medium"}])
def test_without_fixed_pictures_or_by_wish_images_are_fed(
    changes: dict[str, object], feed: Callable[..., ImageFeed]
) -> None:
    own = feed(**{"augment": "none", **changes})
    assert own.prepared(network(), np.arange(40), np.arange(40)) is own


def test_a_backbone_that_trains_is_fed_images(feed: Callable[..., ImageFeed]) -> None:
    model, own = network(), feed(augment="none")
    freeze(model, "all")
    assert own.prepared(model, np.arange(40), np.arange(40)) is own


def test_no_room_for_features_is_said_and_images_are_fed(
    feed: Callable[..., ImageFeed], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = feed(augment="none")
    monkeypatch.setenv("IMGCLS_CACHE_LIMIT", "0")
    monkeypatch.delenv("IMGCLS_QUIET", raising=False)
    assert own.prepared(network(), np.arange(40), np.arange(40)) is own
    assert "computed in every epoch" in capsys.readouterr().err
