"""Messages from a process to its parent while it works, and answers, by files that only grow."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

__all__ = ["Inbox", "Outbox", "Teller"]

#: Bytes that say how long a message is.
_HEAD = 8

#: Seconds between two looks for an answer.
_PAUSE = 0.005


@final
class Outbox:
    """Sends messages.

    Args:
        path: The file, which is made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")

    def __call__(self, message: Any) -> None:
        """Send a message.

        Args:
            message: Anything that can be pickled.
        """
        self.send(pickle.dumps(message))

    def send(self, data: bytes) -> None:
        """Send a message that is pickled already.

        Args:
            data: The message.
        """
        self._file.write(len(data).to_bytes(_HEAD, "big") + data)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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
        for data in self.unread():
            yield pickle.loads(data)  # noqa: S301 (our own process wrote it)

    def unread(self) -> Iterator[bytes]:
        """Give the new messages as they were written, for another machine to read.

        Yields:
            Each message, pickled.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        start = 0
        while (end := start + _HEAD + int.from_bytes(data[start : start + _HEAD], "big")) <= len(data):
            self._read += end - start  # first, since who reads may take one message and no more
            yield data[start + _HEAD : end]
            start = end


@final
class Teller:
    """Speaks from a process: sends pairs of whether an answer is wanted and a message.

    It can be sent to another process of this machine, which then speaks in the place of this one.

    Args:
        messages: The file for messages, which is made.
        answers: The file for answers; it may not be there yet.
    """

    def __init__(self, messages: Path, answers: Path) -> None:
        self._paths = messages, answers
        self._outbox = Outbox(messages)
        self._inbox = Inbox(answers)

    def __reduce__(self) -> tuple[type[Teller], tuple[Path, Path]]:
        return Teller, self._paths

    def __call__(self, message: Any) -> None:
        """Send a message and go on.

        Args:
            message: Anything that can be pickled.
        """
        self._outbox((False, message))

    def ask(self, message: Any) -> Any:
        """Send a message and wait for the answer; a process whose parent dies ends meanwhile.

        Args:
            message: Anything that can be pickled.

        Returns:
            The answer.
        """
        self._outbox((True, message))
        while True:
            for answer in self._inbox.new():
                return answer
            time.sleep(_PAUSE)

    def close(self) -> None:
        """Close the file for messages."""
        self._outbox.close()
