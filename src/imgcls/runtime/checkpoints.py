"""Checkpoints on disk: weights as safetensors, the rest as plain tensors, a manifest with checksums written last."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import SafetensorError
from torch import Tensor

from imgcls.core.errors import RunError
from imgcls.core.folders import read_json, sha256, whole, write_json
from imgcls.core.progress import say

__all__ = ["Checkpoint", "has_checkpoint", "load_checkpoint", "save_checkpoint"]

#: Raised when the layout of the folder changes.
_SCHEMA = 1

_SUFFIXES = {"weights": ".safetensors", "state": ".pt"}

#: How the names of a checkpoint's files begin; a number follows.
_PREFIX = "save-"

#: What `torch.load` reads back without running anything.
_PLAIN = (bool, int, float, str, type(None))


@attrs.frozen(kw_only=True, eq=False)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        weights: The model's state.
        facts: What else is known, such as epoch and value; plain values.
        state: What training needs to go on, or None: tensors and plain values.
    """

    weights: dict[str, Tensor]
    facts: dict[str, Any]
    state: dict[str, Any] | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int = 1) -> None:
    """Write a checkpoint beside older ones.

    The manifest names the files with their checksums and is written last, so that a checkpoint
    is there as a whole or not at all; only then older ones are deleted. Checkpoints are numbered
    as they are written, since two may be of the same step, and no file is ever written over.

    Args:
        folder: The checkpoint's folder, made if need be.
        checkpoint: What to write.
        keep: How many checkpoints stay, this one included.

    Raises:
        RunError: if the disk is full or may not be written, or the state holds something else
            than tensors and plain values; older checkpoints stay as they are.
    """
    _refuse_other(checkpoint.state, "state")
    with _room(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tag = f"{_PREFIX}{_newest(folder) + 1:06d}"
        files = {"weights": _write_weights(folder / f"{tag}.safetensors", checkpoint.weights)}
        if checkpoint.state is not None:
            files["state"] = _write_state(folder / f"{tag}.pt", checkpoint.state)
        sums = {name: sha256(file) for name, file in files.items()}
        content = {"schema": _SCHEMA, "facts": checkpoint.facts, "files": sums}
        write_json(folder / f"{tag}.json", {**content, "seal": _seal(content)})
    for manifest in _manifests(folder)[keep:]:
        for suffix in (".json", *_SUFFIXES.values()):  # the manifest first, which makes the rest a checkpoint
            manifest.with_suffix(suffix).unlink(missing_ok=True)
    _sweep(folder)


def has_checkpoint(folder: Path) -> bool:
    """Say whether a folder has a checkpoint, whole or damaged.

    Args:
        folder: The folder, which may be absent.

    Returns:
        Whether one was written to its end; a process killed in its first save leaves none.
    """
    return bool(_manifests(folder))


# What could not be read again is refused while there is still something to save.
def _refuse_other(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_other(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _refuse_other(inner, f"{path}.{number}")
    elif not isinstance(value, Tensor) and type(value) not in _PLAIN:  # numpy's float64 is a float by inheritance
        raise RunError(f"{path!r} of a checkpoint must be a tensor or a plain value, got {type(value).__name__}")


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have errors of their own for it
        with contextlib.suppress(OSError):
            _sweep(folder)
        raise RunError(
            f"the checkpoint must fit on the disk, got {' '.join(str(error).split())} in {str(folder)!r}; make room, "
            "the checkpoint before is whole"
        ) from error


# A checksum of the manifest itself.
def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write_weights(path: Path, weights: Mapping[str, Tensor]) -> Path:
    from safetensors.torch import save_file

    # Copies, since safetensors refuses tensors that share memory, such as tied weights.
    copies = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in weights.items()}
    with whole(path) as temporary:
        save_file(copies, temporary)
    return path


def _write_state(path: Path, state: Mapping[str, Any]) -> Path:
    with whole(path) as temporary:
        torch.save(dict(state), temporary)
    return path


def _manifests(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*.json"), reverse=True)


def _newest(folder: Path) -> int:
    return max((int(manifest.stem.removeprefix(_PREFIX)) for manifest in _manifests(folder)), default=0)


# What a killed process left: temporary files, and files whose manifest was not written any more.
def _sweep(folder: Path) -> None:
    named = {manifest.stem for manifest in _manifests(folder)}
    for file in folder.iterdir():
        if file.name.startswith(f".{_PREFIX}") or (file.name.startswith(_PREFIX) and file.stem not in named):
            file.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest whole checkpoint of a folder.

    Args:
        folder: The checkpoint's folder.

    Returns:
        The checkpoint. A damaged one is named in a message, and the one before it is taken.

    Raises:
        RunError: if there is none, or all are damaged.
    """
    found = _manifests(folder)
    if not found:
        raise RunError(f"'path' must name the folder of a checkpoint, got none in {str(folder)!r}")
    for number, manifest in enumerate(found):
        try:
            return _read(manifest)
        except RunError as error:
            if number == len(found) - 1:
                raise
            say(f"{error}; the checkpoint before it is used")
    raise AssertionError


def _read(manifest: Path) -> Checkpoint:
    from safetensors.torch import load_file

    written = read_json(manifest)
    if not isinstance(written, dict) or written.pop("seal", None) != _seal(written) or written["schema"] != _SCHEMA:
        raise RunError(f"checkpoint {str(manifest)!r} must be as it was written, got a damaged or foreign file")
    weights = _checked(manifest.with_suffix(_SUFFIXES["weights"]), written["files"]["weights"])
    state = written["files"].get("state")
    rest = None if state is None else _read_state(_checked(manifest.with_suffix(_SUFFIXES["state"]), state))
    return Checkpoint(weights=dict(load_file(weights)), facts=written["facts"], state=rest)


def _checked(file: Path, checksum: str) -> Path:
    if not file.is_file() or sha256(file) != checksum:
        raise RunError(f"checkpoint {str(file)!r} must be as it was written, got a missing or damaged file")
    return file


def _read_state(file: Path) -> dict[str, Any]:
    try:
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError, ValueError) as error:
        raise RunError(
            f"checkpoint {str(file)!r} must hold tensors and plain values alone, got something else; {error}"
        ) from None
