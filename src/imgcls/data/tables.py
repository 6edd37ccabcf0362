"""Tables from files and from other libraries, as frames of pandas."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_lines", "read_table", "to_pandas"]

#: A number whose text comes back from its value, but for zeros at its end.
_DECIMAL = r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?(e[-+][0-9]{2})?"

_SPREADSHEETS = frozenset({".xls", ".xlsx", ".xlsm", ".ods"})


def read_table(
    path: Path, *, words: Iterable[str], delimiter: str | None, encoding: str
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Read a CSV or TSV file.

    Args:
        path: The file.
        words: The columns that are read as text.
        delimiter: What stands between columns; None means tabs for `.tsv`, else commas.
        encoding: The encoding of the file.

    Returns:
        The table without blank lines, and the row of each of its records (N,) in the file,
        whose header is row 1.

    Raises:
        DataError: if the file is missing or no table.
    """
    sign, named = delimiter or ("\t" if path.suffix.lower() == ".tsv" else ","), list(words)
    header = [str(name) for name in _parsed(path, sign, encoding, header=None, nrows=1, dtype=str).iloc[0]]
    if header[0].startswith("sep="):
        raise DataError(
            f"'path' must name a table that begins with its header, got {header[0]!r} in {str(path)!r}; "
            f"delete that line and give delimiter={header[0][4:]!r}"
        )
    if len(header) == 1 and delimiter is None:
        _refuse_other_delimiter(path, header[0])
    for name in named:
        if header.count(name) > 1:
            raise DataError(f"'path' must name each column once, got {name!r} again in {str(path)!r}")
    frame = _parsed(path, sign, encoding, dtype=str)
    _refuse_surplus(path, frame)
    filled = np.flatnonzero(frame.notna().any(axis=1).to_numpy())
    frame = frame.iloc[filled].reset_index(drop=True)
    return frame.assign(**{name: _plain(frame[name]) for name in frame.columns if name not in named}), filled + 2


# Codes such as 007, 1e5 or TRUE are no numbers; what a column says must not change by being read.
def _plain(values: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    known = values.dropna()
    if len(known) and known.str.fullmatch(_DECIMAL).all():
        return pd.Series(pd.to_numeric(values), index=values.index)
    return values


def _parsed(path: Path, delimiter: str, encoding: str, **options: Any) -> pd.DataFrame:
    import pandas as pd

    _refuse_spreadsheet(path)
    try:
        return pd.read_csv(
            path,
            sep=delimiter,
            encoding="utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding,
            keep_default_na=False,
            na_values=[""],
            skip_blank_lines=False,
            low_memory=False,
            **options,
        )
    except OSError:
        raise DataError(f"'path' must name an existing file, got {str(path)!r}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. ")
        raise DataError(
            f"'path' must name a table with one header and rows that fit it, got {str(path)!r}; {reason}"
        ) from None
    except LookupError:
        raise ConfigError(f"'encoding' must be one that Python knows, got {encoding!r}") from None
    except UnicodeError as error:
        raise DataError(
            f"'path' must name a UTF-8 table, got {str(path)!r}; {error}; say what it is, such as encoding='latin-1'"
        ) from None
    except ValueError as error:
        raise DataError(f"'path' must name a UTF-8 table, got {str(path)!r}; {error}") from None


def _refuse_spreadsheet(path: Path) -> None:
    if path.suffix.lower() in _SPREADSHEETS:
        raise DataError(f"'path' must name a table as text, got the spreadsheet {str(path)!r}; save it as CSV")


def _refuse_surplus(path: Path, frame: pd.DataFrame) -> None:
    import pandas as pd

    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes surplus fields for an index
        raise DataError(f"'path' must name a table, got rows with more fields than the header in {str(path)!r}")


def _refuse_other_delimiter(path: Path, header: str) -> None:
    for sign in (";", "\t", "|"):
        if sign in header:
            raise DataError(
                f"'delimiter' must be what stands between the columns, got one column {header!r} in {str(path)!r}; "
                f"try delimiter={sign!r}"
            )


def read_lines(path: Path, *, encoding: str) -> list[str]:
    """Read a text file with one label a line.

    Args:
        path: The file.
        encoding: The encoding of the file.

    Returns:
        The lines without space around them; empty lines at the end are left out.

    Raises:
        DataError: if the file is missing or no text, or a line is empty.
    """
    try:
        content = path.read_text(encoding=encoding)
    except OSError:
        raise DataError(f"'path' must name an existing file, got {str(path)!r}") from None
    except LookupError:
        raise ConfigError(f"'encoding' must be one that Python knows, got {encoding!r}") from None
    except UnicodeError as error:
        raise DataError(f"'path' must name a text in {encoding}, got {str(path)!r}; {error}") from None
    lines = [line.strip() for line in content.removeprefix("\ufeff").rstrip().split("\n")]
    empty = [number for number, line in enumerate(lines, 1) if not line]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise DataError(
            f"'path' must have a label in every line, got nothing in line {empty[0]}{more} of {str(path)!r}; "
            "write it there: the number of a line names its image"
        )
    return lines


def to_pandas(frame: Any) -> pd.DataFrame:
    """Turn a frame of pandas, polars or pyarrow into one of pandas.

    Args:
        frame: The frame.

    Returns:
        A copy, its columns named by text.

    Raises:
        DataError: if it is no frame, or has two columns of one name.
    """
    import pandas as pd

    library, kind = type(frame).__module__.split(".")[0], type(frame).__name__
    if isinstance(frame, pd.DataFrame):
        _refuse_twice(frame.columns)
        return frame.reset_index(drop=True).rename(columns=str)
    if (library, kind) == ("polars", "DataFrame"):
        return pd.DataFrame(frame.to_dict(as_series=False))
    if library == "pyarrow" and kind in {"Table", "RecordBatch"}:
        _refuse_twice(frame.schema.names)
        return pd.DataFrame(frame.to_pydict())
    raise DataError(f"'frame' must be a frame of pandas, polars or pyarrow, got {kind}")


def _refuse_twice(columns: Iterable[Any]) -> None:
    names = list(map(str, columns))
    if len(set(names)) < len(names):
        raise DataError(f"'frame' must name each column once, got {max(names, key=names.count)!r} again")
