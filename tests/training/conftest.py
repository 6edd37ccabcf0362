"""A small network and the plan of its training, for all tests of the loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from imgcls.augment.augment import to_augment
from imgcls.balancing.balancer import Balancer
from imgcls.data.folds import Fold
from imgcls.data.spec import ImageSpec
from imgcls.data.store import open_store
from imgcls.models.base import Classifier
from imgcls.models.head import Head
from imgcls.models.small_cnn import SmallCnn
from imgcls.runtime.device import Runtime
from imgcls.runtime.ranks import Ranks
from imgcls.runtime.sources import Resident
from imgcls.testing import blobs
from imgcls.training.job import Job
from imgcls.training.optimizers import AdamW
from imgcls.training.planning import Recipe, plan_job
from imgcls.training.schedules import Constant
from imgcls.training.stages import FullStage, NonFinite, Stage

DATA = blobs(groups=10, per_group=4, size=8)
TRAIN, VAL = np.arange(28), np.arange(28, 40)


def _network(seed: int = 0, *, outputs: int = 2, dropout: float = 0.0) -> Classifier:
    head = Head(depth=2, dropout=dropout)
    return SmallCnn(base=4, depth=2).build(outputs, in_channels=1, image_size=(8, 8), head=head, seed=seed)


def _planned(folder: Path, **changes: Any) -> Job:
    """Plan a training; changes are of the recipe, of the one stage, or of its balancer."""
    spec = ImageSpec(size=8, channels=1, mean=0.5, std=0.5)
    source = Resident.over(open_store(DATA, spec))
    own = {"optimizer": AdamW(), "schedule": Constant(), "augment": to_augment(None), "balancer": Balancer()}
    given = {name: changes.pop(name) for name in list(changes) if name in own}
    stages = changes.pop("stages", (Stage(epochs=2, lr=0.01),))
    filled = [
        FullStage(stage=stage, **{name: getattr(stage, name) or value for name, value in {**own, **given}.items()})
        for stage in stages
    ]
    fold = Fold(train=changes.pop("train", TRAIN), val=VAL, test=np.arange(0), unused=np.arange(0))
    base = Recipe(
        dataset=DATA,
        source=source,
        train_sources={None: source},
        test=None,
        spec=spec,
        runtime=Runtime(),
        ranks=Ranks(),
        build=lambda _: _network(),
        stages=tuple(filled),
        monitor="average_precision",
        early_stopping=None,
        batch_size=8,
        parts=1,
        clip_grad=None,
        ema=None,
        average=1,
        nonfinite=NonFinite(),
        validate_every=None,
        checkpoint_every=None,
        snapshots=None,
        limit=None,
        seconds=None,
        seed=5,
        fold_seeds=(5,),
        callbacks=(),
    )
    return plan_job(attrs.evolve(base, **changes), fold, 0, folder)


@pytest.fixture
def network() -> Callable[..., Classifier]:
    """Build the network."""
    return _network


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Job]:
    """Plan a training in a folder of its own; changes are of the recipe, of the one stage, or of its balancer."""
    folders = itertools.count()

    def make(folder: Path | None = None, **changes: Any) -> Job:
        own = folder or tmp_path / f"fold_{next(folders)}"
        own.mkdir(exist_ok=True)
        return _planned(own, **changes)

    return make
