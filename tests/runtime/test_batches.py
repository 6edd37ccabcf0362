from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from imgcls.core.randomness import generator
from imgcls.data import images
from imgcls.data.spec import ImageSpec
from imgcls.data.store import open_store
from imgcls.models.small_cnn import SmallCnn
from imgcls.runtime.batches import Batches, chunks, forward
from imgcls.runtime.device import Runtime
from imgcls.runtime.sources import Resident, open_source
from imgcls.testing import blobs

MEANS = {1: (0.4,), 3: (0.485, 0.456, 0.406)}
STDS = {1: (0.2,), 3: (0.229, 0.224, 0.225)}


def batches_of(channels: int, *, channels_last: bool = False) -> Batches:
    spec = ImageSpec(size=(9, 8), channels=channels, mean=MEANS[channels], std=STDS[channels])
    return Batches.over(open_source(blobs(channels=3), spec), Runtime(channels_last=channels_last))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_equal_images_decoded_and_normalised_one_by_one(channels: int, channels_last: bool) -> None:
    found = batches_of(channels, channels_last=channels_last).images(np.array([7, 0, 7]))
    spec = ImageSpec(size=(9, 8), channels=channels)
    arrays = blobs(channels=3).arrays
    assert arrays is not None
    for row, position in zip(found, (7, 0, 7), strict=True):
        pixels = images.decode(arrays[position], spec) / 255.0
        expected = (pixels - np.array(MEANS[channels])) / np.array(STDS[channels])
        np.testing.assert_allclose(row.numpy(), expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_lie_in_memory_as_the_runtime_says(channels_last: bool) -> None:
    found = batches_of(3, channels_last=channels_last).images(np.array([1, 2]))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert found.is_contiguous(memory_format=layout)


def test_making_a_batch_leaves_the_stored_pixels_alone() -> None:
    batches = batches_of(1)
    everything = np.arange(len(blobs(channels=3)))
    before = batches.source.pixels(everything)
    batches.images(np.arange(5)).add_(1)
    assert torch.equal(batches.source.pixels(everything), before)


@given(st.integers(1, 200), st.integers(2, 40))
def test_chunks_lose_no_record_and_leave_none_alone(count: int, size: int) -> None:
    positions = generator(count, "chunks").permutation(count)
    parts = list(chunks(positions, size))
    np.testing.assert_array_equal(np.concatenate(parts), positions)
    assert all(1 < len(part) <= size + 1 for part in parts) or count == 1
    assert all(len(part) == size for part in parts[:-1])


def test_a_last_batch_of_one_joins_the_batch_before() -> None:
    assert [len(part) for part in chunks(np.arange(9), 4)] == [4, 5]
    assert [len(part) for part in chunks(np.arange(10), 4)] == [4, 4, 2]
    assert [len(part) for part in chunks(np.arange(8), 4)] == [4, 4]


@pytest.mark.usefixtures("one_thread")
def test_forward_equals_a_plain_loop_and_leaves_modes_alone() -> None:
    batches, positions = batches_of(3), np.array([3, 1, 4, 1, 5])
    model = SmallCnn(base=4, depth=2).build(2, image_size=(9, 8))
    model.body.eval()
    modes = [module.training for module in model.modules()]
    found = forward(model, batches, positions, batch_size=2)
    assert [module.training for module in model.modules()] == modes
    with torch.no_grad():
        plain = torch.cat([model.eval()(batches.images(positions[i : i + 1])) for i in range(5)])
    torch.testing.assert_close(found, plain)
    assert not found.requires_grad


def test_forward_puts_modes_back_when_the_model_fails() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Linear(3, 2))
    model[0].eval()
    with pytest.raises(RuntimeError, match="shapes"):
        forward(model, batches_of(3), np.arange(4), batch_size=2)
    assert [module.training for module in model] == [False, True]


def test_forward_gives_float32_from_mixed_precision() -> None:
    batches = batches_of(1)
    mixed = Batches.over(
        open_source(blobs(), ImageSpec(size=8, channels=1, mean=0.5, std=0.5)), Runtime(precision="bf16")
    )
    model = SmallCnn(base=4, depth=2).build(2, in_channels=1, image_size=(8, 8))
    assert forward(model, mixed, np.arange(4), batch_size=4).dtype == torch.float32
    assert batches.runtime.precision == "fp32"


def test_the_store_is_read_from_disk_not_copied(tmp_path: Path) -> None:
    store = open_store(blobs(), ImageSpec(size=8, channels=1, mean=0.5, std=0.5), folder=tmp_path)
    source = Batches.over(Resident.over(store), Runtime()).source
    assert isinstance(source, Resident)
    assert source.images.data_ptr() == store.images.ctypes.data
