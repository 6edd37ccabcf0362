"""Weights from a file, without running anything that a file may contain."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError, WeightsError, listing

__all__ = ["absolute", "downloads", "load_weights", "offline_error", "read_weights"]

#: Keys under which training programs keep the weights of a checkpoint.
_WRAPPERS = ("state_dict", "model", "model_state_dict")


def absolute(path: str | Path | None) -> str | None:
    """Write a path in full, so that a configuration means the same wherever it is read.

    Args:
        path: The path, or None.

    Returns:
        The full path, or None.
    """
    return None if path is None else str(Path(path).resolve())


def downloads(pretrained: bool | None, weights: str | None) -> bool:
    """Decide whether pretrained weights are downloaded.

    Args:
        pretrained: What the user says; None means yes, unless there are `weights`.
        weights: A local file, or None.

    Returns:
        Whether they are.

    Raises:
        ConfigError: if both are asked for.
    """
    if pretrained and weights is not None:
        raise ConfigError("'pretrained' must be left out when 'weights' are given, got both")
    return weights is None if pretrained is None else pretrained


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, or a checkpoint of tensors alone.

    Args:
        path: The file; all but `.safetensors` is read by torch with `weights_only`.

    Returns:
        Tensors by name.

    Raises:
        WeightsError: if the file is missing, damaged or holds more than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"'weights' must name an existing file, got {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        # Not the text of torch, which advises to run what the file holds.
        text = f"'weights' must name a file of tensors alone, got {str(path)!r}; save the weights as safetensors"
        raise WeightsError(text) from error
    except Exception as error:  # safetensors has an error class of its own that derives from Exception
        raise WeightsError(f"'weights' must name an undamaged file, got {str(path)!r}; {error}") from error
    return _tensors(content, path)


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"'weights' must name a file of tensors by name, got {str(path)!r}")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, ignore: Collection[str], source: str) -> None:
    """Put weights into a model; all must fit.

    Args:
        model: The model.
        weights: Tensors by name.
        ignore: Modules whose weights are not wanted, such as the old head.
        source: Where the weights come from, for the message.

    Raises:
        WeightsError: if names or shapes differ; both sides are listed.
    """
    wanted = model.state_dict()
    given = {key: value for key, value in weights.items() if key.rpartition(".")[0] not in ignore}
    missing = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    surplus = [key for key in given if key not in wanted]
    shapes = [key for key in given if key in wanted and given[key].shape != wanted[key].shape]
    if missing or surplus or shapes:
        parts = {"missing": missing, "unknown": surplus, "of another shape": shapes}
        report = "; ".join(f"{len(keys)} {what}: {listing(keys, limit=3)}" for what, keys in parts.items() if keys)
        raise WeightsError(f"'weights' must fit the backbone, got {source!r} with {report}")
    model.load_state_dict(dict(given), strict=False)


def offline_error(model: str, error: Exception) -> WeightsError:
    """Explain that pretrained weights could not be had.

    Args:
        model: The model.
        error: What the library said.

    Returns:
        The error, to be raised.
    """
    cause = (str(error) or type(error).__name__).splitlines()[0][:200]
    return WeightsError(
        f"pretrained weights of {model!r} must be downloadable or in the cache, got {type(error).__name__}: {cause}; "
        "connect to the network once, give 'weights' a local file, or set 'pretrained' to False"
    )
