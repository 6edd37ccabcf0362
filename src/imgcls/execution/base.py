"""Tasks, how they ended, and the interface of what runs them."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, final

import attrs

from imgcls.core.errors import ConfigError, ImgclsError
from imgcls.core.options import choice, number, optional, rejected

__all__ = ["STATES", "Executor", "Listener", "Result", "Task", "Tell"]

#: How a task can end: it returned; it raised; its process died; it was asked to end; it took too long.
STATES = ("done", "failed", "killed", "interrupted", "timeout")


class Tell(Protocol):
    """Speaks from a task to who runs it."""

    def __call__(self, message: Any) -> None:
        """Send a message and go on."""

    def ask(self, message: Any) -> Any:
        """Send a message and wait for what the listener answers."""


def _is_name(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value or value.startswith(".") or {"/", "\\", "\0"} & set(value):
        raise rejected(field.name, "be a name that a file can have", value)


def _is_function(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not callable(value):
        raise rejected(field.name, "be a function", value)


@final
@attrs.frozen(kw_only=True, eq=False)
class Task:
    """Something to do, here or in a process of its own.

    Attributes:
        name: What it is called; tasks that run together have different names.
        function: Called as `function(shared, tell, **arguments)`, with what all tasks share and a
            `Tell` that sends messages to who runs the tasks. For processes it must be importable: at the
            top level of a module.
        arguments: Its further arguments by name; small, since they are copied for each task.
        timeout: Seconds that it may take; None for any time.
    """

    name: str = attrs.field(validator=_is_name)
    function: Callable[..., Any] = attrs.field(validator=_is_function)
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    timeout: float | None = attrs.field(default=None, validator=optional(number(0, above=True)))


@final
@attrs.frozen(kw_only=True, eq=False)
class Result:
    """How a task ended.

    Attributes:
        name: The task.
        state: One of `STATES`.
        value: What its function returned.
        error: What its function raised, of its own type, with the traceback of the process as a note.
        reason: Why it is not done, for people.
        seconds: How long it took.
    """

    name: str
    state: str = attrs.field(validator=choice(*STATES))
    value: Any = None
    error: Exception | None = None
    reason: str = ""
    seconds: float = 0.0

    def get(self) -> Any:
        """Give the value of a task that is done.

        Returns:
            What its function returned.

        Raises:
            Exception: what its function raised.
            ImgclsError: if it ended in another way; the message says how.
        """
        if self.error is not None:
            raise self.error
        if self.state != "done":
            raise ImgclsError(f"{self.name!r} must run to its end, got {self.reason}")
        return self.value


@final
@attrs.frozen(kw_only=True)
class Listener:
    """Hears of tasks, in the process that runs them.

    Attributes:
        heard: Called with a task and each message that its function tells.
        asked: Called with a task and each message that its function asks; what it returns is the answer.
        done: Called with each task and its result as soon as it ends.
    """

    heard: Callable[[Task, Any], object] = lambda _, __: None
    asked: Callable[[Task, Any], Any] = lambda _, __: None
    done: Callable[[Task, Result], object] = lambda _, __: None


class Executor(abc.ABC):
    """Runs tasks: one after the other, or side by side."""

    @final
    def run(
        self, tasks: Iterable[Task | None], *, shared: Any = None, listener: Listener | None = None
    ) -> list[Result]:
        """Run tasks; what one of them does ends no other.

        Tasks are taken from `tasks` when there is room for one, so a generator may decide on the next
        task by what it knows of those that ended; where that is not enough yet, it yields None, and is asked
        again while others run. A signal, or an error in the generator or the
        listener, ends what still runs: it is asked with SIGTERM, and killed 10 s later.

        Args:
            tasks: What to do.
            shared: The first argument of every function, such as a Trainer; sent to the processes once.
            listener: Hears of messages and results.

        Returns:
            The results in the order of the tasks.

        Raises:
            ConfigError: if two tasks have one name, or something cannot be sent to a process.
        """
        heard = listener or Listener()
        names: list[str] = []
        results: dict[str, Result] = {}

        def done(task: Task, result: Result) -> None:
            results[task.name] = result
            heard.done(task, result)

        self._run(_taken(tasks, names), shared, attrs.evolve(heard, done=done))
        return [results[name] for name in names]

    @abc.abstractmethod
    def _run(self, tasks: Iterator[Task | None], shared: Any, listener: Listener) -> None:
        """Run each task and tell of its result once; take a task only when it can begin."""


def _taken(tasks: Iterable[Task | None], names: list[str]) -> Iterator[Task | None]:
    for task in tasks:
        if task is not None:
            if task.name in names:
                raise ConfigError(f"'tasks' must have different names, got {task.name!r} twice")
            names.append(task.name)
        yield task
