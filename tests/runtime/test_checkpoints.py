import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imgcls.core.errors import RunError
from imgcls.core.folders import sha256
from imgcls.runtime import checkpoints
from imgcls.runtime.checkpoints import Checkpoint, has_checkpoint, load_checkpoint, save_checkpoint

SUFFIXES = (".safetensors", ".pt", ".json")


def weights(seed: int = 0) -> dict[str, Tensor]:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    return {"weight": weight.to(memory_format=torch.channels_last), "steps": torch.tensor(3)}


def checkpoint(step: int) -> Checkpoint:
    state = {"optimizer": {0: {"mean": torch.full((2,), float(step))}}, "rank": (step, -float("inf")), "lr": None}
    return Checkpoint(weights=weights(step), facts={"step": step, "values": {"loss": None}}, state=state)


def saved(folder: Path, *steps: int, keep: int = 1) -> Path:
    for step in steps:
        save_checkpoint(folder, checkpoint(step), keep=keep)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def newest(folder: Path, suffix: str) -> Path:
    return max(folder.glob(f"*{suffix}"))


# Written and read


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = load_checkpoint(saved(tmp_path / "best", 7))
    assert found.weights.keys() == weights().keys()
    assert all(torch.equal(found.weights[name], value) for name, value in weights(7).items())
    assert found.facts == {"step": 7, "values": {"loss": None}}
    assert found.state is not None
    assert torch.equal(found.state["optimizer"][0]["mean"], torch.tensor([7.0, 7.0]))
    assert found.state["rank"] == (7, -float("inf"))


def test_weights_can_be_kept_alone(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Checkpoint(weights=weights(), facts={}))
    assert load_checkpoint(tmp_path).state is None
    assert [Path(name).suffix for name in files(tmp_path)] == [".json", ".safetensors"]


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    save_checkpoint(tmp_path, Checkpoint(weights={"a": layer.weight, "b": layer.weight}, facts={}))
    found = load_checkpoint(tmp_path).weights
    assert torch.equal(found["a"], layer.weight)
    assert torch.equal(found["b"], layer.weight)


def test_the_state_of_an_optimizer_is_read_as_it_was_written(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path, Checkpoint(weights={}, facts={}, state=OrderedDict(own=optimizer.state_dict())))
    found = load_checkpoint(tmp_path).state
    assert found is not None
    torch.testing.assert_close(found["own"], optimizer.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_so_many_checkpoints_are_kept(keep: int, tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, 4, keep=keep)
    assert len(files(tmp_path)) == 3 * keep
    assert load_checkpoint(tmp_path).facts["step"] == 4


def test_the_one_that_was_written_last_is_the_newest_whatever_its_step(tmp_path: Path) -> None:
    assert load_checkpoint(saved(tmp_path, 9, 3)).facts["step"] == 3
    assert len(files(tmp_path)) == 3


# Damage


@pytest.mark.parametrize("place", [8, -2])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flipped_byte_is_refused_by_name_and_the_checkpoint_before_is_used(
    suffix: str, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")
    damaged = newest(saved(tmp_path, 1, 2, keep=2), suffix)
    flip(damaged, place)
    assert load_checkpoint(tmp_path).facts["step"] == 1
    said = capsys.readouterr().err
    assert damaged.name in said
    assert "the checkpoint before it is used" in said


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_a_missing_file_is_refused_by_name_and_the_checkpoint_before_is_used(suffix: str, tmp_path: Path) -> None:
    newest(saved(tmp_path, 1, 2, keep=2), suffix).unlink()
    assert load_checkpoint(tmp_path).facts["step"] == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_short_is_refused(suffix: str, tmp_path: Path) -> None:
    file = newest(saved(tmp_path, 1), suffix)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(RunError, match=file.name):
        load_checkpoint(tmp_path)


def test_only_damaged_checkpoints_are_an_error_that_names_the_oldest(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, keep=2)
    for file in tmp_path.glob("*.safetensors"):
        flip(file, -1)
    with pytest.raises(RunError, match=min(tmp_path.glob("*.safetensors")).name):
        load_checkpoint(tmp_path)


def test_a_missing_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="absent"):
        load_checkpoint(tmp_path / "absent")


# Foreign content


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def forged(folder: Path, content: bytes) -> None:
    """Put another state into a checkpoint, with a manifest that fits."""
    manifest = newest(folder, ".json")
    manifest.with_suffix(".pt").write_bytes(content)
    written = json.loads(manifest.read_text())
    del written["seal"]
    written["files"]["state"] = sha256(manifest.with_suffix(".pt"))
    manifest.write_text(json.dumps({**written, "seal": checkpoints._seal(written)}))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_that_would_run_something_is_refused_and_runs_nothing(zipped: bool, tmp_path: Path) -> None:
    evil, folder = Evil(tmp_path / "executed"), saved(tmp_path / "last", 1)
    file = tmp_path / "evil.pt"
    if zipped:
        torch.save({"state": evil}, file)
    else:
        file.write_bytes(pickle.dumps({"state": evil}, protocol=2))
    forged(folder, file.read_bytes())
    with pytest.raises(RunError, match=r"save-000001.pt.* must hold tensors and plain values alone"):
        load_checkpoint(folder)
    assert not evil.target.exists()


@pytest.mark.parametrize("value", [np.float64(1.0), np.zeros(2), Path("a"), {1}, Evil(Path("a"))])
def test_what_could_not_be_read_again_is_refused_before_anything_is_written(value: Any, tmp_path: Path) -> None:
    saved(tmp_path, 1)
    before = files(tmp_path)
    with pytest.raises(RunError, match=rf"'state.course.0' .* got {type(value).__name__}"):
        save_checkpoint(tmp_path, Checkpoint(weights=weights(), facts={}, state={"course": [value]}))
    assert files(tmp_path) == before


def test_facts_that_cannot_be_written_keep_the_old_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path, Checkpoint(weights=weights(), facts={"value": float("nan")}))
    assert load_checkpoint(tmp_path).facts["step"] == 1


# Full disks and killed processes


@pytest.mark.parametrize("writer", ["safetensors.torch.save_file", "torch.save"])
def test_a_save_that_fails_keeps_the_old_checkpoint_and_leaves_nothing(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 1)

    def full(_: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, full)
    before = files(tmp_path)
    with pytest.raises(RunError, match=rf"must fit on the disk, got .*No space left.* in '{tmp_path}'; make room"):
        saved(tmp_path, 2)
    assert files(tmp_path) == before
    assert load_checkpoint(tmp_path).facts["step"] == 1


_LIMITED = """
import resource, sys
from pathlib import Path
import torch
from imgcls.core.errors import RunError
from imgcls.runtime.checkpoints import Checkpoint, load_checkpoint, save_checkpoint

folder, large = Path(sys.argv[1]), torch.zeros(100_000)
save_checkpoint(folder, Checkpoint(weights={"a": torch.ones(3)}, facts={"step": 1}))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for checkpoint in (
    Checkpoint(weights={"a": large}, facts={"step": 2}),
    Checkpoint(weights={"a": torch.ones(3)}, facts={"step": 2}, state={"a": large}),
):
    try:
        save_checkpoint(folder, checkpoint)
    except RunError as error:
        print(error)
print(load_checkpoint(folder).facts["step"], len(list(folder.iterdir())))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are those of POSIX")
def test_files_that_may_not_grow_keep_the_old_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LIMITED, str(tmp_path / "last")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    of_weights, of_state, rest = found.stdout.splitlines()
    for message in (of_weights, of_state):
        assert message.startswith("the checkpoint must fit on the disk")
        assert str(tmp_path / "last") in message
    assert rest == "1 2"


def test_leftovers_of_a_killed_save_are_swept(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    for name in ("save-000002.safetensors", "save-000002.pt", ".save-000002.json.tmp-17", ".save-000002.pt.tmp-17"):
        (tmp_path / name).write_bytes(b"half")
    assert load_checkpoint(tmp_path).facts["step"] == 1
    saved(tmp_path, 2)
    assert files(tmp_path) == ["save-000002.json", "save-000002.pt", "save-000002.safetensors"]
    assert load_checkpoint(tmp_path).facts["step"] == 2


def test_a_first_save_that_was_killed_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "save-000001.safetensors").write_bytes(b"half")
    assert not has_checkpoint(tmp_path)
    assert not has_checkpoint(tmp_path / "absent")
    assert has_checkpoint(saved(tmp_path, 1))


def test_killed_anywhere_in_a_save_the_old_or_the_new_checkpoint_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every change of the folder is a place to be killed at: both checkpoints are of the same step."""
    steps = 0
    for killed in range(100):
        folder, calls = saved(tmp_path / str(killed), 1), iter(range(1000))

        def dying(original: Any, killed: int = killed, calls: Any = calls) -> Any:
            def call(*args: Any, **options: Any) -> Any:
                if next(calls) == killed:
                    raise KeyboardInterrupt
                return original(*args, **options)

            return call

        with monkeypatch.context() as patched:
            for name in ("replace", "unlink"):
                patched.setattr(Path, name, dying(getattr(Path, name)))
            try:
                save_checkpoint(folder, Checkpoint(weights=weights(5), facts={"step": 1, "second": True}))
            except KeyboardInterrupt:
                steps += 1
        found = load_checkpoint(folder)
        assert torch.equal(found.weights["weight"], weights(5 if "second" in found.facts else 1)["weight"])
        if killed > steps:
            break
    assert steps > 4
