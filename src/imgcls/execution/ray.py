"""Tasks side by side on the machines of a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import attrs

from imgcls.core.errors import ConfigError, ImgclsError
from imgcls.core.options import count, instance, number, optional
from imgcls.core.progress import say
from imgcls.execution.base import Executor, Listener, Result, Task
from imgcls.execution.cluster import Cluster, connected
from imgcls.execution.processes import THREADS
from imgcls.execution.seat import News, Seat, Setting
from imgcls.execution.sending import packed

__all__ = ["Ray"]

#: Seconds between two looks at the tasks where none has news.
_PATIENCE = 0.5

#: So long seats may take to end what runs on them, in seconds: that of a process, and the way there.
_FAREWELL = 15.0

#: After so many seconds without a place it is said what is waited for.
_WAITING = 30.0

#: So many seats in a row may die before they begin.
_STILLBORN = 3

#: Variables of this process that those of tasks have too: where caches are, and what may be loaded.
_PASSED_ON = ("IMGCLS_", "HF_", "TORCH_HOME")


@final
@attrs.frozen(kw_only=True)
class Ray(Executor):
    """Runs each task in a Python process on some machine of a cluster, several at a time.

    On each of `parallel` places an actor of Ray begins the same processes as the executor `processes`, so all that
    holds of those holds here. All machines must see `scratch` under the same path. What tasks share goes to each
    place once, through the object store of Ray. A place whose machine dies makes its task a killed one, and is
    replaced.

    Attributes:
        parallel: How many tasks run at a time, as far as the cluster has room.
        scratch: A folder beside what tasks read and write; it shows whether a machine sees it.
        cluster: Which cluster, and what each task needs of it.
        threads: How many threads libraries of mathematics use in each process.
        cpus: Processors that a task is given; None gives it as many as threads.
        gpus: GPUs that it is given.
        logs: Where `<task>.log` goes if a process prints something; None keeps none.
        reuse: Whether a process whose task is done takes another one.
    """

    parallel: int = attrs.field(validator=count(1))
    scratch: Path = attrs.field(validator=instance(Path))
    cluster: Cluster = attrs.field(factory=Cluster, validator=instance(Cluster))
    threads: int = attrs.field(default=1, validator=count(1))
    cpus: int | None = attrs.field(default=None, validator=optional(count(1)))
    gpus: float = attrs.field(default=0, validator=number(0))
    logs: Path | None = attrs.field(default=None, validator=optional(instance(Path)))
    reuse: bool = attrs.field(default=False, validator=instance(bool))

    def _run(self, tasks: Iterator[Task | None], shared: Any, listener: Listener) -> None:
        data = packed(shared, name="shared")
        with self._sign() as sign, connected(self.cluster, cpus=self.parallel * self._cpus) as ray:
            hall = _Hall(ray=ray, make=self._maker(ray, sign, data))
            try:
                hall.places.extend(_Place(hall=hall) for _ in range(self.parallel))
                while hall.fill(tasks):
                    hall.listen(listener)
            finally:
                hall.close()

    @property
    def _cpus(self) -> int:
        return self.cpus or self.threads

    # A file that only the machines see that share the folder.
    @contextlib.contextmanager
    def _sign(self) -> Iterator[Path]:
        sign = self.scratch / f"seen-{secrets.token_hex(8)}"
        self.scratch.mkdir(parents=True, exist_ok=True)
        sign.write_text(sign.name, encoding="utf-8")
        try:
            yield sign.resolve()
        finally:
            sign.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # of another program
                self.scratch.rmdir()

    def _maker(self, ray: Any, sign: Path, data: bytes) -> Any:
        passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        setting = Setting(
            home=str(Path.cwd()),
            sign=sign,
            text=sign.name,
            paths=tuple(sys.path),
            version=version("imgcls"),
            variables={**passed, "IMGCLS_QUIET": "1", **dict.fromkeys(THREADS, str(self.threads))},
            logs=None if self.logs is None else self.logs.resolve(),
            reuse=self.reuse,
        )
        kind, sent = ray.remote(num_cpus=self._cpus, num_gpus=self.gpus)(Seat), ray.put(data)
        return lambda: kind.remote(setting, sent)


@attrs.define(kw_only=True, eq=False)
class _Hall:
    """All places, and what waits for them.

    Attributes:
        ray: The module.
        make: Makes a seat.
        places: The places.
        exhausted: Whether there are no tasks any more.
        stillborn: How many seats in a row died before they began.
        since: When places were asked for, by the monotonic clock; None once there was one, or it was said that there is
            none.
    """

    ray: Any
    make: Any
    places: list[_Place] = attrs.field(factory=list)
    exhausted: bool = False
    stillborn: int = 0
    since: float | None = attrs.field(factory=time.monotonic)

    def fill(self, tasks: Iterator[Task | None]) -> bool:
        """Begin tasks where there is room.

        Returns:
            Whether anything is left to wait for.
        """
        for place in self.places:
            if place.free and not self.exhausted:
                task = next(tasks, _NONE)
                if task is None:  # it depends on those that run
                    return True
                self.exhausted = task is _NONE
                if isinstance(task, Task):
                    place.begin(task)
        return not self.exhausted or any(place.task is not None for place in self.places)

    def listen(self, listener: Listener) -> None:
        waiting = {place.pending: place for place in self.places if place.pending is not None}
        if not waiting:
            time.sleep(_PATIENCE)
            return
        ready, _ = self.ray.wait(list(waiting), num_returns=1, timeout=_PATIENCE)
        for found in ready:
            waiting[found].report(found, listener)
        self._say_what_is_missing()

    def _say_what_is_missing(self) -> None:
        if any(place.ready for place in self.places):
            self.since = None
        elif self.since is not None and time.monotonic() - self.since > _WAITING:
            self.since = None
            say(f"Waiting for room in the Ray cluster, which has {self.ray.cluster_resources()} in all")

    def died(self, error: Exception) -> None:
        self.stillborn += 1
        if self.stillborn >= _STILLBORN:
            rule = "begin tasks on its machines"
            raise ImgclsError(f"'executor' must {rule}, got {error}; see that imgcls is installed on all of them")

    # Seats end what runs on them side by side; who does not answer is ended by Ray.
    def close(self) -> None:
        seats = [place.seat for place in self.places if place.seat is not None]
        ended = [place.seat.close.remote() for place in self.places if place.seat is not None and place.ready]
        try:
            if ended:
                self.ray.wait(ended, num_returns=len(ended), timeout=_FAREWELL)
        finally:
            for seat in seats:
                self.ray.kill(seat)


@attrs.define(kw_only=True, eq=False)
class _Place:
    """Where one seat works, and another one if it dies.

    Attributes:
        hall: With all places.
        seat: The actor.
        pending: What it was asked for.
        ready: Whether it has begun.
        task: What runs on it.
        started: When that began.
    """

    hall: _Hall
    seat: Any = None
    pending: Any = None
    ready: bool = False
    task: Task | None = None
    started: float = 0.0

    def __attrs_post_init__(self) -> None:
        self._take_seat()

    @property
    def free(self) -> bool:
        return self.ready and self.task is None

    def begin(self, task: Task) -> None:
        data = packed((task.function, dict(task.arguments), Path("..", "shared.pickle")), name=task.name)
        self.task, self.started = task, time.monotonic()
        self.pending = self.seat.begin.remote(task.name, data, task.timeout)

    def report(self, found: Any, listener: Listener) -> None:
        try:
            news = self.hall.ray.get(found)
        except self.hall.ray.exceptions.RayActorError as error:
            self._replaced(error, listener)
            return
        except self.hall.ray.exceptions.RayTaskError as error:  # a full disk, or no memory for a process
            self.hall.ray.kill(self.seat)
            self._replaced(error, listener)
            return
        if self.task is None:
            self._begun(news)
        else:
            self._heard(self.task, news, listener)

    def _begun(self, problem: str) -> None:
        if problem:
            raise ConfigError(problem)
        self.ready, self.pending, self.hall.stillborn = True, None, 0

    def _heard(self, task: Task, news: News, listener: Listener) -> None:
        answers = []
        for data in news.messages:
            wants, message = pickle.loads(data)  # noqa: S301 (our own process wrote it)
            if wants:
                answers.append(pickle.dumps(listener.asked(task, message)))
            else:
                listener.heard(task, message)
        if news.ending is None:
            self.pending = self.seat.news.remote(answers)
            return
        self.task, self.pending = None, None
        listener.done(task, news.ending.result(task.name))

    def _replaced(self, error: Exception, listener: Listener) -> None:
        task, self.task = self.task, None
        self.seat, self.ready = None, False
        if task is None:
            self.hall.died(error)
        self._take_seat()
        if task is not None:
            reason = "a machine or a worker of Ray that died: " + str(error).splitlines()[0]
            seconds = time.monotonic() - self.started
            listener.done(task, Result(name=task.name, state="killed", reason=reason, seconds=seconds))

    def _take_seat(self) -> None:
        self.seat = self.hall.make()
        self.pending = self.seat.problem.remote()


#: Says that there are no tasks any more.
_NONE = object()
