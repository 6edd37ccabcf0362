"""The graph of a predictor in files: ONNX, a program of `torch.export`, or weights alone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch.export import Dim, ExportedProgram

from imgcls.core.errors import UnsupportedModelError, missing_extra
from imgcls.inference.exported import OUTPUTS
from imgcls.inference.graph import Graph

__all__ = ["write_onnx", "write_program", "write_weights"]

#: One that runtimes of the last years have, TensorRT 10 among them.
_OPSET = 18

#: A file of ONNX holds no more; larger weights lie beside it.
_MOST_BYTES = 1_900_000_000

#: How the exporter names an operator that it does not know.
_OPERATOR = re.compile(r"OpOverload\(op='([\w.]+)'|target=([\w.]+)")


def write_onnx(graph: Graph, file: Path, pixels: NDArray[Any]) -> None:
    """Write ONNX: input `pixels` (B, H, W, C); outputs `probs` (B, K), `each` (B, M, K), `embeddings` (B, M, D).

    H and W are free where the graph resizes.

    Args:
        graph: The models.
        file: The file.
        pixels: Two real images or more.

    Raises:
        UnsupportedModelError: if ONNX lacks an operator; with its name.
        MissingExtraError: if onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing_extra(str(error.name), "onnx") from None
    program = _program(graph, pixels)
    size = sum(value.numel() * value.element_size() for value in graph.state_dict().values())
    with _named_operators():
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=_OPSET,
            input_names=["pixels"],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    assert made is not None
    made.save(file, external_data=size > _MOST_BYTES)


def write_program(graph: Graph, file: Path, pixels: NDArray[Any]) -> None:
    """Write a program that `torch.export.load(file).module()` reads, without imgcls.

    Args:
        graph: The models.
        file: The file.
        pixels: Two real images or more.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about its own state
        torch.export.save(_program(graph, pixels), file)


def write_weights(graph: Graph, file: Path, pixels: NDArray[Any]) -> None:  # noqa: ARG001 (as the others are called)
    """Write the weights of all models, the names of each with its number before them.

    Args:
        graph: The models.
        file: The file.
        pixels: Not needed.
    """
    from safetensors.torch import save

    kept = ("body", "head", "prior_shift")
    weights = {
        f"{number}.{name}": value.clone().contiguous()
        for number, part in enumerate(graph.parts)
        for name, value in part.state_dict().items()
        if name.partition(".")[0] in kept
    }
    file.write_bytes(save(weights))


def _program(graph: Graph, pixels: NDArray[Any]) -> ExportedProgram:
    example, free = torch.from_numpy(pixels[:2]), {0: Dim("batch")}
    if graph.resize is not None:
        free |= {1: Dim("height"), 2: Dim("width")}
    try:
        with torch.no_grad():
            return torch.export.export(graph, (example,), dynamic_shapes=(free,))
    except Exception as error:  # it fails in any way, with what the code of the network made it meet
        raise UnsupportedModelError(
            f"the network must be one that 'torch.export' can follow, got {type(error).__name__}: {_first(error)}; "
            "export 'safetensors'"
        ) from error


@contextmanager
def _named_operators() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about its own state
            yield
    except torch.onnx.errors.OnnxExporterError as error:
        found = dict.fromkeys(match[1] or match[2] for match in _OPERATOR.finditer(_whole(error)))
        names = ", ".join(map(repr, found)) or _first(error)
        raise UnsupportedModelError(
            f"the network must consist of operators that ONNX has, got {names}; export 'torch-export' or 'safetensors'"
        ) from error


def _whole(error: BaseException | None) -> str:
    return "" if error is None else f"{error}\n{_whole(error.__cause__)}"


def _first(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]
