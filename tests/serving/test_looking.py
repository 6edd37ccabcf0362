"""Images of several requests that are decoded and predicted together."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray

from imgcls.data.images import InMemory
from imgcls.inference.reading import Told
from imgcls.serving.batching import Batcher, BusyError
from imgcls.serving.limits import Limits
from imgcls.serving.looking import Looker, Seen
from imgcls.serving.predicting import Desk
from imgcls.serving.served import Served, open_served
from imgcls.serving.uploads import Order, Refused


def upload(content: bytes, name: str = "a.png") -> InMemory:
    return InMemory(name=name, content=content)


@pytest.mark.parametrize(
    ("content", "message", "status"),
    [
        (b"no image", "image 'bad' must be readable, got no image of a known format", 422),
        (b"", "image 'bad' must be readable, got an empty file", 422),
        (bytes(128) + b"DICM" + bytes(300), "pydicom", 422),
    ],
)
def test_a_file_that_cannot_be_read_takes_none_of_the_others_with_it(
    content: bytes, message: str, status: int, served: Served, png: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    sizes: list[int] = []
    look = Looker(served=served, limits=Limits(), predicted=sizes.append)
    first, bad, last = look([upload(png(255)), upload(content, "bad"), upload(png(0))])
    assert isinstance(bad, Refused)
    assert message in str(bad)
    assert (bad.status, bad.file) == (status, "bad")
    assert isinstance(first, Seen)
    assert isinstance(last, Seen)
    assert [one.told.probs[0, 1] for one in (first, last)] == [1.0, 0.0]
    assert sizes == [2]


def test_too_large_an_image_is_refused_before_it_is_decoded(served: Served, png: Any) -> None:
    look = Looker(served=served, limits=Limits(megapixels=1), predicted=lambda _: None)
    (found,) = look([upload(png(size=(1001, 1000)))])
    assert isinstance(found, Refused)
    assert found.status == 413
    assert "must have at most 1 megapixels, got 1.0" in str(found)


def test_where_nothing_can_be_read_nothing_is_predicted(served: Served) -> None:
    def never(_: NDArray[Any]) -> Told:
        raise AssertionError

    look = Looker(served=attrs.evolve(served, tell=never), limits=Limits(), predicted=lambda _: None)
    assert all(isinstance(one, Refused) for one in look([upload(b"x"), upload(b"y")]))


def test_an_order_that_finds_no_room_takes_none(served: Served, png: Any) -> None:
    begun, go = threading.Event(), threading.Event()
    seen: list[str] = []

    def work(files: Any) -> list[Any]:
        begun.set()
        go.wait(10)
        seen.extend(file.name for file in files)
        return [ValueError(file.name) for file in files]

    batcher: Batcher[InMemory, Seen] = Batcher(work, batch=8, waiting=3)
    batcher.submit(upload(png(), "first"))
    begun.wait(10)
    order = Order(files=tuple(upload(png(), f"late-{number}") for number in range(3)))
    with pytest.raises(BusyError):
        asyncio.run(Desk(served=served, batcher=batcher).answer(order))
    go.set()
    batcher.close()
    assert seen == ["first"]


def test_an_export_shares_the_processors(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    given: list[int] = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: str, options: Any, **more: Any) -> None:
            given.append(options.intra_op_num_threads)
            super().__init__(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    for processors, batches, threads in ((1, 1, 1), (2, 2, 1), (4, 4, 1), (16, 4, 13)):
        monkeypatch.setattr("os.cpu_count", lambda count=processors: count)
        assert open_served(exported).at_a_time == batches
        assert given.pop() == threads


def test_threads_get_the_answers_of_their_own_images(exported: Path) -> None:
    served = open_served(exported)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28, 3), dtype=np.uint8)
    wanted = served.tell(pixels).probs
    found: dict[int, Any] = {}

    def ask(at: int) -> None:
        for _ in range(20):
            found[at] = served.tell(pixels[at : at + 3]).probs

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(0, 12, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, probs in found.items():
        np.testing.assert_allclose(probs, wanted[at : at + 3], atol=1e-6)
