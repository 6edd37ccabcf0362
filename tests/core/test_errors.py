from __future__ import annotations

import inspect
import pickle

import pytest

from imgcls.core import errors
from imgcls.core.errors import ImgclsError, listing, nearest

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ImgclsError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_pickling_and_is_in_the_tree(kind: type[ImgclsError]) -> None:
    again = pickle.loads(pickle.dumps(kind("text")))
    assert (type(again), str(again)) == (kind, "text")
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("resnet81", ["resnet18", "vgg11"], "did you mean 'resnet18'?"),
        ("vg11", ["vgg11", "vgg13", "x"], "did you mean 'vgg11' or 'vgg13'?"),
        ("q", ["b", "a", "b"], "there are 'a', 'b'"),
        ("q", [], "there are none"),
    ],
)
def test_nearest_names_or_all(name: str, options: list[str], said: str) -> None:
    assert nearest(name, options) == said


def test_listing_is_cut() -> None:
    assert listing([]) == ""
    assert listing(range(20)).endswith("'11' and 8 more")
