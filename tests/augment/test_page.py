import re
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import yaml

from imgcls.augment.augment import to_augment
from imgcls.augment.groups import KINDS
from imgcls.augment.presets import PRESETS

PAGE = (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("one_thread")
def test_code_of_the_page_runs() -> None:
    for block in blocks("python"):
        exec(compile(block, "augmentation.md", "exec"), {})


@pytest.mark.parametrize("block", blocks("yaml"))
def test_configurations_of_the_page_are_valid(block: str) -> None:
    to_augment(yaml.safe_load(block)["augment"])


def test_the_page_has_all_presets_transforms_and_options() -> None:
    words = set(re.findall(r"`([\w-]+)`", PAGE))
    assert set(PRESETS) <= words
    for kind in cast("tuple[Any, ...]", KINDS):
        assert {kind.name, *(field.name for field in attrs.fields(kind))} <= words
