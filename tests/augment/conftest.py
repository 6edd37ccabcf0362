"""Images, and a transform applied to all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from imgcls.augment.augment import to_augment
from imgcls.augment.augmenter import augmenter
from imgcls.augment.table import Rows

Apply = Callable[..., tuple[Tensor, Tensor | None]]


@pytest.fixture
def images(one_thread: None) -> Tensor:
    return torch.rand(4, 3, 20, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def apply(one_thread: None) -> Apply:
    def applied(
        spec: Any, images: Tensor, masks: Tensor | None = None, *, start: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        rows = Rows.span(start, len(images), seed=4, epoch=2)
        return augmenter(to_augment(spec), classes=["a", "b"]).apply(images, rows, masks)

    return applied


@pytest.fixture
def albumentations(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # or it asks a server for its newest version
    pytest.importorskip("albumentations")
    return importlib.import_module("albumentations")
