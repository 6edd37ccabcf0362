"""Messages from a process to its parent while it works, by a file that only grows."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

__all__ = ["Inbox", "Outbox"]

#: Bytes that say how long a message is.
_HEAD = 8


@final
class Outbox:
    """Sends messages.

    Args:
        path: The file, which is made.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def __call__(self, message: Any) -> None:
        """Send a message.

        Args:
            message: Anything that can be pickled.
        """
        data = pickle.dumps(message)
        self._file.write(len(data).to_bytes(_HEAD, "big") + data)
        self._file.flush()


@final
class Inbox:
    """Receives messages.

    Args:
        path: The file; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def new(self) -> Iterator[Any]:
        """Give the messages that came since the last time; one that is half written is left for the next.

        Yields:
            Each message.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        start = 0
        while (end := start + _HEAD + int.from_bytes(data[start : start + _HEAD], "big")) <= len(data):
            yield pickle.loads(data[start + _HEAD : end])  # noqa: S301 (our own process wrote it)
            self._read += end - start
            start = end
