"""Weights on disk: safetensors beside a description with their checksum, exchanged as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from imgcls.core.errors import RunError
from imgcls.core.folders import read_json, sha256, whole, write_json

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(folder: Path, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint in place of an older one.

    The description names the file of weights and is exchanged last, so that at every
    moment the folder holds one whole checkpoint; only then older weights are deleted.

    Args:
        folder: The checkpoint's folder, made if need be.
        state: The model's state.
        facts: What else is worth knowing, such as epoch and value; plain values.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    old = set(folder.glob("*.safetensors"))
    file = folder / f"epoch-{facts['epoch']:04d}.safetensors"
    with whole(file) as temporary:
        # Copies, since safetensors refuses tensors that share memory, such as tied weights.
        copies = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in state.items()}
        save_file(copies, temporary)
    write_json(folder / "checkpoint.json", {**facts, "weights": file.name, "sha256": sha256(file)})
    for stale in old - {file}:
        stale.unlink()


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint and check it.

    Args:
        folder: The checkpoint's folder.

    Returns:
        The model's state and the facts.

    Raises:
        RunError: if it is missing or damaged.
    """
    from safetensors.torch import load_file

    facts = read_json(folder / "checkpoint.json")
    file = folder / str(facts["weights"])
    if not file.is_file() or sha256(file) != facts["sha256"]:
        raise RunError(f"checkpoint {str(file)!r} must be as it was written, got a missing or damaged file")
    return dict(load_file(file)), facts
