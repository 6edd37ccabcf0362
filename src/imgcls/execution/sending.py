"""What goes to another process and comes back, by files."""

from __future__ import annotations

import io
import pickle
import traceback
import types
from pathlib import Path
from typing import Any

import attrs

from imgcls.core.errors import ConfigError, ImgclsError
from imgcls.core.folders import whole

__all__ = ["load", "packed", "refuse_unsendable", "save", "sendable_error"]

#: So many characters of a value are shown.
_SHOWN = 100


# What the main script defines has no module that another process could import.
class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type | types.FunctionType) and value.__module__ == "__main__":
            raise pickle.PicklingError(f"{value.__qualname__} is defined in the main script")
        return NotImplemented


# Large arrays come as buffers, which have no length.
class _Nowhere:
    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


def packed(value: Any, *, name: str) -> bytes:
    """Pickle a value for another machine.

    Args:
        value: Anything that can be pickled.
        name: What it is called.

    Returns:
        The bytes.

    Raises:
        ConfigError: if it cannot be pickled; the field at fault is named.
    """
    stream = io.BytesIO()
    try:
        _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception:  # pickling runs foreign code, which raises what it likes
        refuse_unsendable(value, path=name)
        raise
    return stream.getvalue()


def save(value: Any, path: Path) -> None:
    """Write a value for another process.

    Args:
        value: Anything that can be pickled.
        path: The file.
    """
    with whole(path) as temporary, temporary.open("wb") as file:
        _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)


def load(path: Path) -> Any:
    """Read what `save` wrote.

    Args:
        path: A file that a process of this program wrote in a folder of its own.

    Returns:
        The value.
    """
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 (our own processes wrote it)


def refuse_unsendable(value: Any, *, path: str = "") -> None:
    """Refuse what another process could not load, before anything else is done.

    Args:
        value: The value; where it is of attrs, the field at fault is named.
        path: What it is called.

    Raises:
        ConfigError: if it cannot be pickled.
    """
    if (problem := _problem(value)) is None:
        return
    if attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            refuse_unsendable(getattr(value, field.name), path=f"{path}.{field.name}".removeprefix("."))
    raise ConfigError(
        f"{path or 'value'!r} must be something that another process can load, got {_short(value)}; {problem}; define "
        "functions and classes at the top level of a module that can be imported"
    )


# The repr of a network fills pages.
def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _problem(value: Any) -> Exception | None:
    try:
        _Pickler(_Nowhere(), pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception as error:  # pickling runs foreign code, which raises what it likes
        return error
    return None


def sendable_error(error: Exception) -> Exception:
    """Make an error that can be raised in another process, with its traceback as a note.

    Args:
        error: What was raised here.

    Returns:
        The error itself where it survives pickling, else an `ImgclsError` with its type and text.
    """
    text = "".join(traceback.format_exception(error)).rstrip()
    sent = _again(error) or ImgclsError(f"{type(error).__name__}: {error}")
    sent.add_note(f"In its own process:\n{text}")
    return sent


# Some errors take more than they say.
def _again(error: Exception) -> Exception | None:
    try:
        found: Exception = pickle.loads(pickle.dumps(error))  # noqa: S301 (made in this line)
    except Exception:  # whatever their code raises
        return None
    return found if type(found) is type(error) else None
