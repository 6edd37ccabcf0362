import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from imgcls.core.errors import RunError
from imgcls.runtime.checkpoints import load_checkpoint, save_checkpoint


def state(seed: int = 0) -> dict[str, Tensor]:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    return {"weight": weight.to(memory_format=torch.channels_last), "steps": torch.tensor(3)}


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best", state(), {"epoch": 2, "values": {"loss": None}})
    weights, facts = load_checkpoint(tmp_path / "best")
    assert weights.keys() == state().keys()
    assert all(torch.equal(weights[name], value) for name, value in state().items())
    assert facts["epoch"] == 2
    assert facts["values"] == {"loss": None}


def test_only_the_newest_weights_are_kept(tmp_path: Path) -> None:
    for epoch in (0, 3):
        save_checkpoint(tmp_path, state(epoch), {"epoch": epoch})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.json", "epoch-0003.safetensors"]
    assert torch.equal(load_checkpoint(tmp_path)[0]["weight"], state(3)["weight"])


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    save_checkpoint(tmp_path, {"a": layer.weight, "b": layer.weight}, {"epoch": 0})
    weights, _ = load_checkpoint(tmp_path)
    assert torch.equal(weights["a"], layer.weight)
    assert torch.equal(weights["b"], layer.weight)


@pytest.mark.parametrize("place", [8, -1])
def test_a_flipped_byte_is_refused_by_name(place: int, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(), {"epoch": 1})
    file = tmp_path / "epoch-0001.safetensors"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"epoch-0001.safetensors"):
        load_checkpoint(tmp_path)


def test_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(), {"epoch": 1})
    (tmp_path / "epoch-0001.safetensors").unlink()
    with pytest.raises(RunError, match=r"epoch-0001.safetensors"):
        load_checkpoint(tmp_path)


def test_a_missing_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="absent"):
        load_checkpoint(tmp_path / "absent")


def test_a_save_that_fails_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, state(0), {"epoch": 0})

    def full(_: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path, state(1), {"epoch": 1})
    assert torch.equal(load_checkpoint(tmp_path)[0]["weight"], state(0)["weight"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.json", "epoch-0000.safetensors"]


def test_a_description_that_cannot_be_written_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(0), {"epoch": 0})
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path, state(1), {"epoch": 1, "value": float("nan")})
    assert json.loads((tmp_path / "checkpoint.json").read_text())["epoch"] == 0
    assert torch.equal(load_checkpoint(tmp_path)[0]["weight"], state(0)["weight"])
