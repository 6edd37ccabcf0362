"""The log of a run: lines of JSON, one file a level, rotated and never wiped."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, final

__all__ = ["cut_torn_line", "note", "run_logs"]

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_BYTES, _BACKUPS = 10 * 2**20, 20

_logger = logging.getLogger("imgcls")
_logger.addHandler(logging.NullHandler())  # else Python prints warnings that `warn` has printed already


def note(level: str, text: str, /, **fields: Any) -> None:
    """Write a line to the log of the run, and to the logging that the user has set up.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        text: The message.
        **fields: What else belongs to the line, such as fold, epoch and step.
    """
    _logger.log(_LEVELS[level], text, extra={"fields": fields})


@contextlib.contextmanager
def run_logs(folder: Path) -> Iterator[None]:
    """Keep the log of a run in its folder while the block runs.

    `debug.jsonl` has every message, `info.jsonl`, `warning.jsonl` and `error.jsonl` those of
    that level and above; each is rotated at 10 MiB and 20 older files are kept. Lines are
    appended, also by a later run in the same folder. An error that ends the block is logged
    with its traceback. The root logger is left alone.

    Args:
        folder: Where the files go; it is made.

    Yields:
        Nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handlers = [_file(folder / f"{name}.jsonl", level) for name, level in _LEVELS.items()]
    handlers += [_Outer()] if _logger.propagate else []
    before = _logger.level, _logger.propagate
    _logger.setLevel(logging.DEBUG)
    _logger.propagate = False
    for handler in handlers:
        _logger.addHandler(handler)
    try:
        with _errors_logged():
            yield
    finally:
        for handler in handlers:
            _logger.removeHandler(handler)
            handler.close()
        _logger.setLevel(before[0])
        _logger.propagate = before[1]


@contextlib.contextmanager
def _errors_logged() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        _logger.exception(type(error).__name__)
        raise


def _file(path: Path, level: int) -> logging.Handler:
    cut_torn_line(path)
    handler = RotatingFileHandler(path, maxBytes=_BYTES, backupCount=_BACKUPS, encoding="utf-8", delay=True)
    handler.setLevel(level)
    handler.setFormatter(_Lines())
    return handler


# With the level of our logger at debug, handlers of the user would see messages that their level hides.
@final
class _Outer(logging.Handler):
    """Passes on to the user's own logging what its level lets through."""

    def emit(self, record: logging.LogRecord) -> None:
        root = logging.getLogger()
        if root.handlers and record.levelno >= root.level:  # without handlers Python would print to the console
            root.callHandlers(record)


@final
class _Lines(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = {key: _plain(value) for key, value in getattr(record, "fields", {}).items()}
        entry = entry | fields | entry  # what every line has comes first, and is not replaced
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


# JSON has no NaN and no infinity.
def _plain(value: Any) -> Any:
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def cut_torn_line(path: Path) -> None:
    """Take away the end of a text file that a kill left without its newline.

    Args:
        path: The file, which may be absent.
    """
    if not path.exists():
        return
    with path.open("rb+") as file:
        text = file.read()
        file.truncate(text.rfind(b"\n") + 1)
