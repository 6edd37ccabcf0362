"""The kits find what plugins do wrong: each broken plugin below breaks one rule."""

import itertools
import logging
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgcls import Dataset, Facts, ImgclsError
from imgcls.balancing.base import Records, Sampler
from imgcls.data.folds import TEST, TRAIN, VAL
from imgcls.explain.base import Explainer, Score, scores
from imgcls.models.base import Backbone
from imgcls.search.base import Outcome, Plan, SearchBackend, Study, Trial
from imgcls.splitting.base import Splitter
from imgcls.testing import (
    blobs,
    check_backbone,
    check_explainer,
    check_sampler,
    check_search_backend,
    check_splitter,
    check_tracker,
    write_image_folder,
)
from imgcls.tracking.base import Point, RunInfo, Tracker, Tracking

pytestmark = pytest.mark.usefixtures("one_thread")

_calls = itertools.count()


@attrs.frozen(kw_only=True)
class Tuned(Sampler):
    """A good sampler, and with a fault a broken one."""

    fault: str = ""

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        size = len(records.labels)
        if self.fault == "global chance":
            return np.random.permutation(size)  # noqa: NPY002
        if self.fault == "memory":
            return np.roll(np.arange(size), next(_calls))
        if self.fault == "writes":
            records.labels[:] = records.labels[::-1].copy()
        return np.flatnonzero(records.labels == 0) if self.fault == "loses a class" else rng.permutation(size)


@attrs.define(kw_only=True)
class Mutable(Sampler):
    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.permutation(len(records.labels))


def test_a_good_sampler_passes() -> None:
    check_sampler(Tuned())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("global chance", "Tuned must leave the global random state of numpy alone"),
        ("memory", "Tuned must draw the same for the same seed and epoch"),
        ("writes", "Tuned must leave the records as they are"),
        ("loses a class", "Tuned must draw every class that has records"),
    ],
)
def test_a_broken_sampler_is_found(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_sampler(Tuned(fault=fault))


@attrs.frozen(kw_only=True)
class Boastful(Sampler):
    repeats: ClassVar[bool] = False

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.integers(len(records.labels), size=3 * len(records.labels))


def test_a_sampler_that_repeats_unlike_it_says_is_found() -> None:
    with pytest.raises(AssertionError, match="Boastful must draw no record twice in an epoch, or say"):
        check_sampler(Boastful())


def test_a_plugin_that_is_not_frozen_is_found() -> None:
    with pytest.raises(AssertionError, match="Mutable must be frozen"):
        check_sampler(Mutable())


@attrs.frozen(kw_only=True)
class Halves(Splitter):
    fault: str = ""

    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        groups = dataset.groups if dataset.groups is not None else dataset.ids
        shift = next(_calls) if self.fault == "memory" else seed
        part = (np.unique(groups, return_inverse=True)[1] // len(dataset.classes) + shift) % 3
        if self.fault == "refuses all":
            part[:] = 0
        if self.fault == "writes":
            dataset.frame["seen"] = True
        return np.array([TRAIN, VAL, TEST if test else TRAIN], dtype=np.int8)[part][None]


def test_a_good_splitter_passes() -> None:
    check_splitter(Halves())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("memory", "Halves must divide a set alike for the same seed"),
        ("refuses all", "Halves must accept one of the sets of the kit"),
        ("writes", "Halves must leave the set as it is"),
    ],
)
def test_a_broken_splitter_is_found(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_splitter(Halves(fault=fault))


@attrs.frozen(kw_only=True)
class Pooled(Backbone):
    fault: str = ""

    def make(self, *, in_channels: int, image_size: tuple[int, int], initial: bool) -> tuple[nn.Module, Facts]:
        body: nn.Module = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        layout = "NLC" if self.fault == "layout" else "NCHW"
        if self.fault in BODIES:
            body = BODIES[self.fault](body)
        if self.fault == "constant":
            nn.init.zeros_(body.get_parameter("0.weight"))
        if self.fault == "own chance":
            torch.default_generator.seed()
            body = nn.Sequential(*body.children()) if next(_calls) < 0 else body
            nn.init.normal_(body.get_parameter("0.weight"))
        return body, Facts(num_features=4, target_layer=None if self.fault in BODIES else "1", layout=layout)


class Noisy(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(next(_calls))
            features: Tensor = self.body(images)
            return features + torch.rand(1)


class Mixing(Noisy):
    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images)
        return features - features.mean(dim=0)


class Blind(Noisy):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :4]


class Hidden(Noisy):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.secret = torch.rand(4)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images)
        return features * self.secret


BODIES: dict[str, Any] = {"noise": Noisy, "mixing": Mixing, "blind": Blind, "hidden": Hidden}


def test_a_good_backbone_passes() -> None:
    check_backbone(Pooled(), size=8)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("layout", "Pooled must have a target layer that gives NLC maps, got 4 axes"),
        ("noise", "Pooled must give the same logits twice in evaluation mode"),
        ("mixing", "Pooled must say of an image in evaluation mode what it says of it alone"),
        ("blind", "Pooled must let gradients reach the parameters of its body"),
        ("hidden", "Pooled must keep in its state all that its logits depend on"),
        ("own chance", "Pooled must have the same weights for the same seed"),
    ],
)
def test_a_broken_backbone_is_found(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_backbone(Pooled(fault=fault), size=8)


@attrs.frozen(kw_only=True)
class Gradient(Explainer):
    fault: str = ""

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        score = scores(model(images), target).sum()
        (maps,) = torch.autograd.grad(score, images)
        maps = (maps * images).sum(dim=1)
        if self.fault == "noise":
            maps += 0.1 * next(_calls)
        if self.fault == "scales":
            maps /= maps.abs().max()
        if self.fault == "weights":
            next(model.parameters()).zero_()
        return torch.zeros_like(maps) if self.fault == "nothing" else maps.detach()


def test_a_good_explainer_passes() -> None:
    check_explainer(Gradient())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("noise", "Gradient must give the same maps twice"),
        ("scales", "Gradient must give an image the map that it has alone"),
        ("weights", "Gradient must leave weights and buffers of the model as they were"),
        ("nothing", "Gradient must find something"),
    ],
)
def test_a_broken_explainer_is_found(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_explainer(Gradient(fault=fault))


@attrs.frozen(kw_only=True)
class Ladder(SearchBackend):
    fault: str = ""

    def _study(self, plan: Plan) -> Study:
        return LadderStudy(plan=plan, fault=self.fault)


@attrs.define(kw_only=True, eq=False)
class LadderStudy(Study):
    fault: str

    def _propose(self, number: int) -> Trial | None:
        if self.fault == "gives up" and number == 4:
            return None
        step = next(_calls) if self.fault == "memory" else number
        return Trial(number=number, params={"optimizer": "adamw", "lr": 1e-5 * (1 + step % 900), "depth": 1})

    def _stops(self, trial: Trial, *, step: int, value: float) -> bool:
        return False

    def _learn(self, trial: Trial, outcome: Outcome) -> None:
        pass


def test_a_good_search_backend_passes() -> None:
    check_search_backend(Ladder())


@pytest.mark.parametrize(
    ("fault", "message"),
    [("gives up", "Ladder must ask trials 0 to 5"), ("memory", "Ladder must propose the same trials")],
)
def test_a_broken_search_backend_is_found(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_search_backend(Ladder(fault=fault))


@attrs.frozen(kw_only=True)
class Diary(Tracker):
    fault: str = ""

    def _start(self, run: RunInfo, identity: str) -> Tracking:
        return DiarySession(fault=self.fault, identity=f"run {next(_calls)}" if self.fault == "forgets" else run.name)


@attrs.define(kw_only=True, eq=False)
class DiarySession(Tracking):
    fault: str

    def _log(self, point: Point) -> None:
        if self.fault == "chance":
            np.random.seed(0)  # noqa: NPY002
        if self.fault == "plain names" and not all(key.replace("/", "_").isidentifier() for key in point.values):
            raise ValueError("a name")

    def _keep(self, path: Path, kind: str) -> None:
        if self.fault == "root logger":
            logging.getLogger().addHandler(logging.NullHandler())

    def _finish(self, status: str) -> None:
        pass


def test_a_good_tracker_passes() -> None:
    check_tracker(Diary())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("forgets", "Diary must continue a run under its identity"),
        ("chance", "Diary must leave the global random state of numpy alone"),
        ("plain names", "Diary must take every point and file, got ValueError: a name"),
        ("root logger", "Diary must leave sys.excepthook and the root logger as they were"),
    ],
)
def test_a_broken_tracker_is_found(fault: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", list(logging.getLogger().handlers))
    with pytest.raises(AssertionError, match=message):
        check_tracker(Diary(fault=fault))


# The sets


@pytest.mark.parametrize("options", [{"classes": 1}, {"classes": 9}, {"size": 7}])
def test_sets_that_cannot_be_made_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ImgclsError, match=f"'{next(iter(options))}' must"):
        blobs(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("splits", [None, ["train", "train", "test"]])
def test_a_written_set_is_read_again(channels: int, splits: list[str] | None, tmp_path: Any) -> None:
    data = blobs(size=8, channels=channels, splits=splits)
    again = Dataset.from_folder(write_image_folder(tmp_path, data), group="(g[0-9]+)-")
    assert again.counts() == data.counts()
    order = np.argsort([name.rpartition("-")[2] for name in again.ids])
    assert again.groups is not None
    assert data.groups is not None
    np.testing.assert_array_equal(again.groups[order], data.groups)
    np.testing.assert_array_equal(again[int(order[3])].image, data[3].image)


def test_only_sets_in_memory_are_written(tmp_path: Any) -> None:
    data = Dataset.from_folder(write_image_folder(tmp_path, blobs(size=8)))
    with pytest.raises(ImgclsError, match="'data' must hold images in memory"):
        write_image_folder(tmp_path / "copy", data)


def test_classes_of_blobs_differ_in_the_place_of_the_square() -> None:
    data = blobs(classes=8, groups=8, per_group=2, size=16)
    assert data.arrays is not None
    places = {
        label: set(map(tuple, np.argwhere(image > 200))) for image, label in zip(data.arrays, data.labels, strict=True)
    }
    assert len(places) == 8
    assert not any(places[a] & places[b] for a in places for b in places if a != b)
