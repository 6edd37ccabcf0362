"""Weights from a file, without running anything that a file may contain."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError, WeightsError, listing
from imgcls.core.folders import read_json, sha256
from imgcls.core.progress import say

__all__ = [
    "Unmatched",
    "absolute",
    "downloads",
    "load_weights",
    "offline_error",
    "read_weights",
    "short_name",
]

#: Keys under which training programs keep the weights of a checkpoint.
_WRAPPERS = ("state_dict", "model", "model_state_dict")

#: Prefixes that wrappers of a network put before its names.
_PREFIXES = ("module.", "body.", "model.")


@attrs.frozen(kw_only=True)
class Unmatched:
    """What of a file of weights and a network did not fit together.

    Attributes:
        missing: Names that the network has and the file lacks.
        unknown: Names that the file has and the network lacks.
        reshaped: Names that both have, with other shapes.
    """

    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.reshaped)

    def __str__(self) -> str:
        parts = {"missing": self.missing, "unknown": self.unknown, "of another shape": self.reshaped}
        return "; ".join(f"{len(names)} {what}: {listing(names, limit=3)}" for what, names in parts.items() if names)


def absolute(path: str | Path | None) -> str | None:
    """Write a path in full, so that a configuration means the same wherever it is read.

    Args:
        path: The path, or None.

    Returns:
        The full path, or None.
    """
    return None if path is None else str(Path(path).resolve())


def downloads(pretrained: bool | None, weights: str | None, *, strict: bool = True) -> bool:
    """Decide whether pretrained weights are downloaded.

    Args:
        pretrained: What the user says; None means yes, unless there are `weights`.
        weights: A local file, or None.
        strict: Whether all of a file must fit.

    Returns:
        Whether they are.

    Raises:
        ConfigError: if both are asked for, or there is no file to be less strict with.
    """
    if pretrained and weights is not None:
        raise ConfigError("'pretrained' must be left out when 'weights' are given, got both")
    if not strict and weights is None:
        raise ConfigError("'strict' must be left out without 'weights', got False")
    return weights is None if pretrained is None else pretrained


def short_name(name: str) -> str:
    """Write the name of a weight as its network does, without the prefixes of what wraps it.

    Args:
        name: Such as `body.model.layer1.0.conv1.weight`.

    Returns:
        Such as `layer1.0.conv1.weight`.
    """
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, a checkpoint of tensors alone, or a checkpoint folder of a run.

    Args:
        path: The file or folder; all files but `.safetensors` are read by torch with
            `weights_only`.

    Returns:
        Tensors by name; of a checkpoint of imgcls, those of the backbone.

    Raises:
        WeightsError: if the file is missing, damaged or holds more than tensors.
    """
    path = _of_folder(path) if path.is_dir() else path
    if not path.is_file():
        raise WeightsError(f"'weights' must name an existing file, got {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return _backbone(load_file(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        # Not the text of torch, which advises to run what the file holds.
        text = f"'weights' must name a file of tensors alone, got {str(path)!r}; save the weights as safetensors"
        raise WeightsError(text) from error
    except Exception as error:  # safetensors has an error class of its own that derives from Exception
        raise WeightsError(f"'weights' must name an undamaged file, got {str(path)!r}; {error}") from error
    return _backbone(_tensors(content, path))


# The newest checkpoint of the folder; its manifest holds the checksum.
def _of_folder(folder: Path) -> Path:
    manifests = sorted(folder.glob("save-*.json"))
    if not manifests:
        text = "'weights' must name a file or a run's checkpoint, such as 'fold_0/checkpoints/best'"
        raise WeightsError(f"{text}, got {str(folder)!r}")
    file, written = manifests[-1].with_suffix(".safetensors"), read_json(manifests[-1])
    if not file.is_file() or sha256(file) != written["files"]["weights"]:
        raise WeightsError(f"'weights' must name an undamaged checkpoint, got {str(folder)!r}; take another one")
    return file


# A checkpoint of imgcls holds a head and more beside the backbone.
def _backbone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own = {name: tensor for name, tensor in tensors.items() if name.startswith("body.")}
    heads = any(name.startswith("head.") for name in tensors)
    return own if own and heads else dict(tensors)


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"'weights' must name a file of tensors by name, got {str(path)!r}")
    return {str(key): value for key, value in content.items()}


def load_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    ignore: Collection[str],
    source: str,
    strict: bool = True,
) -> Unmatched:
    """Put weights into a network.

    Names are compared without the prefixes of wrappers. Where the network takes one channel
    and the weights three, those of the first convolution are summed, and divided among the
    channels in the other case, so that the network says of grey images what it said.

    Args:
        model: The network.
        weights: Tensors by name.
        ignore: Names, or modules, whose weights are not wanted, such as the old head.
        source: Where the weights come from, for the message.
        strict: Whether all must fit; else what does not is left out, and said.

    Returns:
        What did not fit.

    Raises:
        WeightsError: if names or shapes differ, or nothing fits; both sides are listed.
    """
    wanted = {short_name(name): name for name in model.state_dict()}
    shapes = {short_name(name): tensor.shape for name, tensor in model.state_dict().items()}
    given = {short_name(name): tensor for name, tensor in weights.items()}
    given = {k: v for k, v in given.items() if k in wanted or not {k, k.rpartition(".")[0]} & set(ignore)}
    given = {k: _for_channels(v, shapes[k]) if k in shapes else v for k, v in given.items()}
    fitting = {k: v for k, v in given.items() if k in shapes and v.shape == shapes[k]}
    unmatched = Unmatched(
        missing=tuple(k for k in wanted if k not in given and not k.endswith("num_batches_tracked")),
        unknown=tuple(k for k in given if k not in wanted),
        reshaped=tuple(k for k in given if k in wanted and k not in fitting),
    )
    if not fitting or (strict and unmatched):
        raise WeightsError(f"'weights' must fit the backbone, got {source!r} with {unmatched}")
    if unmatched:
        say(f"Weights of {source!r} left out, since they do not fit: {unmatched}")
    model.load_state_dict({wanted[k]: v for k, v in fitting.items()}, strict=False)
    return unmatched


def _for_channels(tensor: Tensor, shape: torch.Size) -> Tensor:
    if tensor.ndim != 4 or len(shape) != 4 or (tensor.shape[0], tensor.shape[2:]) != (shape[0], shape[2:]):
        return tensor
    if (tensor.shape[1], shape[1]) == (3, 1):
        return tensor.sum(dim=1, keepdim=True)
    return tensor.expand(-1, 3, -1, -1) / 3 if (tensor.shape[1], shape[1]) == (1, 3) else tensor


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
