"""One task done by several processes that train together, begun as torchrun begins them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import tempfile
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imgcls.execution.base import Tell
from imgcls.execution.sending import sendable_error
from imgcls.runtime.interruption import EXIT_CODE

__all__ = ["train_together"]

#: An error that came up in here says that another process is gone, which has a reason of its own.
_SPEAKING = Path("torch", "distributed").as_posix()


def train_together(function: Callable[..., Any], shared: Any, tell: Tell, *, ranks: int, **arguments: Any) -> Any:
    """Run a task in several processes, which find each other by the variables that torchrun sets.

    For the main thread of a process of its own: it ends with its task, and the processes with it.

    Args:
        function: The task, called in each process as in `Task`; the messages of all of them arrive, so the first
            alone should speak.
        shared: What all tasks share.
        tell: Speaks to who runs the task; something that can be pickled.
        ranks: How many processes.
        arguments: Further ones of the function.

    Returns:
        What the function returned in the first process.

    Raises:
        Exception: what the function raised in one of them.
        SystemExit: if they were asked to end, with the code for what can be continued, or if one died.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=ranks,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            return elastic_launch(config, _one_of_them)(function, shared, tell, arguments, folder)[0]
        except SignalException:
            sys.exit(EXIT_CODE)
        except ChildFailedError as error:
            raise _reason(Path(folder), error.failures) from None


def _one_of_them(
    function: Callable[..., Any], shared: Any, tell: Tell, arguments: Mapping[str, Any], folder: str
) -> Any:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        return function(shared, tell, **arguments)
    except Exception as error:
        if _SPEAKING not in Path(traceback.extract_tb(error.__traceback__)[-1].filename).as_posix():
            Path(folder, f"error_{os.environ['RANK']}").write_bytes(pickle.dumps(sendable_error(error)))
        raise


# Otherwise it might wait for ever for an answer of one who is gone.
def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(EXIT_CODE)


# The first error; that of a process which lost the others is none.
def _reason(folder: Path, failures: Mapping[int, Any]) -> BaseException:
    left = sorted(folder.glob("error_*"), key=lambda path: path.stat().st_mtime_ns)
    if left:
        error: Exception = pickle.loads(left[0].read_bytes())  # noqa: S301 (our own process wrote it)
        return error
    codes = {failure.exitcode for failure in failures.values()}
    return SystemExit(EXIT_CODE if codes == {EXIT_CODE} else f"one of the processes that train together died: {codes}")
