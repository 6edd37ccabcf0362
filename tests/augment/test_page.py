import re
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np
import pytest
import torch
import yaml

from imgcls.augment.augment import to_augment
from imgcls.augment.augmenter import augmenter
from imgcls.augment.groups import KINDS
from imgcls.augment.presets import PRESETS
from imgcls.augment.table import Rows

PAGE = (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("one_thread")
def test_code_of_the_page_runs() -> None:
    for block in blocks("python"):
        exec(compile(block, "augmentation.md", "exec"), {})


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("block", blocks("yaml"))
def test_configurations_of_the_page_run(block: str) -> None:
    own = augmenter(to_augment(yaml.safe_load(block)["augment"]), classes=["0", "MT_Fray"])
    images = torch.rand(48, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    rows = Rows.span(0, 48, seed=0, epoch=0, labels=np.zeros(48, np.int64))
    found, _ = own.apply(images, rows)
    assert (found != images).flatten(1).any(1).float().mean() > 0.5


def test_the_page_has_all_presets_transforms_and_options() -> None:
    words = set(re.findall(r"`([\w-]+)`", PAGE))
    assert set(PRESETS) <= words
    for kind in cast("tuple[Any, ...]", KINDS):
        assert {kind.name, *(field.name for field in attrs.fields(kind))} <= words
