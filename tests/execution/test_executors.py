from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.execution import work

from imgcls.core.errors import ConfigError, DataError, ImgclsError
from imgcls.execution import process
from imgcls.execution.base import Executor, Listener, Result, Task
from imgcls.execution.local import Local
from imgcls.execution.processes import Processes
from imgcls.execution.sending import refuse_unsendable


def task(function: Callable[..., Any], name: str = "one", /, *, timeout: float | None = None, **arguments: Any) -> Task:
    return Task(name=name, function=function, arguments=arguments, timeout=timeout)


@pytest.fixture(params=["local", "processes"])
def executor(request: pytest.FixtureRequest, tmp_path: Path) -> Executor:
    return Local() if request.param == "local" else Processes(parallel=2, scratch=tmp_path / "scratch")


@pytest.fixture
def processes(tmp_path: Path) -> Callable[..., Processes]:
    return lambda parallel=1, **options: Processes(parallel=parallel, scratch=tmp_path / "scratch", **options)


def appeared(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# What every executor does


def test_results_come_in_the_order_of_the_tasks(executor: Executor) -> None:
    told: list[str] = []
    found = executor.run(
        [task(work.add, f"t{number}", number=number) for number in range(3)],
        shared=10,
        listener=Listener(done=lambda task, result: told.append(task.name)),
    )
    assert [(result.name, result.state, result.get()) for result in found] == [
        ("t0", "done", 10),
        ("t1", "done", 11),
        ("t2", "done", 12),
    ]
    assert sorted(told) == ["t0", "t1", "t2"]


def test_an_error_is_a_result_with_its_type_and_ends_no_other(executor: Executor) -> None:
    failing = task(work.fail, "bad", error=DataError("'x' must be y"))
    bad, good = executor.run([failing, task(work.add, "good", number=1)], shared=1)
    assert (bad.state, bad.reason, good.get()) == ("failed", "DataError: 'x' must be y", 2)
    with pytest.raises(DataError) as caught:
        bad.get()
    assert str(caught.value) == "'x' must be y"


def test_messages_come_in_their_order_and_before_the_result(executor: Executor) -> None:
    heard: list[Any] = []
    listener = Listener(
        heard=lambda task, message: heard.append(message["value"]), done=lambda task, result: heard.append(result.state)
    )
    executor.run([task(work.count, number=500)], shared=3, listener=listener)
    assert heard == [*range(3, 503), "done"]


def test_an_error_of_the_listener_is_the_callers(executor: Executor) -> None:
    def fail(_: Task, message: Any) -> None:
        raise KeyError(message["value"])

    with pytest.raises(KeyError, match="7"):
        executor.run([task(work.count, number=2)], shared=7, listener=Listener(heard=fail))


def test_a_generator_decides_on_the_next_task_by_the_results(executor: Executor) -> None:
    known: list[int] = []

    def tasks() -> Iterator[Task]:
        for step in range(6):
            if sum(known) > 2:
                return
            yield task(work.add, f"t{step}", number=1)

    executor.run(tasks(), shared=0, listener=Listener(done=lambda task, result: known.append(result.get())))
    assert 3 <= len(known) <= 4  # with two places one more has begun by then


def test_two_tasks_of_one_name_are_refused(executor: Executor) -> None:
    with pytest.raises(ConfigError, match="'tasks' must have different names, got 'one' twice"):
        executor.run([task(work.add, number=1), task(work.add, number=2)], shared=0)


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a\\b"])
def test_a_task_must_have_a_name_that_a_file_can_have(name: str) -> None:
    with pytest.raises(ConfigError, match="'name' must be a name that a file can have"):
        Task(name=name, function=work.add)


def test_a_limit_that_nothing_would_keep_is_refused() -> None:
    with pytest.raises(ConfigError, match="'timeout' must be left out in this process"):
        Local().run([task(work.add, number=1, timeout=1)], shared=0)


# What processes do


def test_every_task_has_a_fresh_process_without_torch(processes: Callable[..., Processes]) -> None:
    first, second = processes(threads=3).run([task(work.process_of, name) for name in "ab"])
    assert len({os.getpid(), first.get()["pid"], second.get()["pid"]}) == 3
    assert first.value == {**first.value, "torch": False, "OMP_NUM_THREADS": "3", "IMGCLS_QUIET": "1"}


def test_tasks_run_side_by_side_and_see_one_gpu_each(processes: Callable[..., Processes], tmp_path: Path) -> None:
    tasks = [task(work.meet, name, name=name, count=2) for name in "ab"]
    found = processes(parallel=2, gpus=["4", "GPU-7"]).run(tasks, shared=tmp_path)
    assert [result.get() for result in found] == ["4", "GPU-7"]


def test_the_traceback_of_the_process_goes_with_its_error(processes: Callable[..., Processes]) -> None:
    (found,) = processes().run([task(work.fail, error=KeyError("x"))])
    assert isinstance(found.error, KeyError)
    assert "work.py" in found.error.__notes__[0]


@pytest.mark.parametrize(("function", "reason"), [(work.fussy, "Fussy"), (work.local_value, "local_value.<locals>")])
def test_what_cannot_be_sent_back_is_an_error_in_words(
    function: Callable[..., Any], reason: str, processes: Callable[..., Processes]
) -> None:
    (found,) = processes().run([task(function)])
    assert found.state == "failed"
    assert reason in found.reason
    with pytest.raises(Exception, match=reason):
        found.get()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_process_is_reported_with_its_signal_and_last_words(
    number: signal.Signals, processes: Callable[..., Processes], tmp_path: Path
) -> None:
    found, other = processes(logs=tmp_path).run(
        [task(work.die, number=number), task(work.add, "b", number=1)], shared=1
    )
    assert (found.state, other.get()) == ("killed", 2)
    with pytest.raises(
        ImgclsError, match=rf"'one' must run to its end, got a process that was killed by {number.name}"
    ):
        found.get()
    assert "about to die" in found.reason
    assert [path.name for path in tmp_path.glob("*.log")] == ["one.log"]


def test_a_process_that_leaves_without_a_result_is_reported(processes: Callable[..., Processes]) -> None:
    (found,) = processes().run([task(work.leave)])
    assert (found.state, found.reason) == ("killed", "a process that ended with exit code 3")


def test_a_process_that_somebody_asked_to_end_is_reported(processes: Callable[..., Processes]) -> None:
    (found,) = processes().run([task(work.die, number=signal.SIGTERM)])
    assert found.state == "interrupted"


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_task_that_takes_too_long_is_ended(
    stubborn: bool, processes: Callable[..., Processes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_GRACE", 0.5)
    (found,) = processes().run([task(work.wait, timeout=3, name="a", stubborn=stubborn)], shared=tmp_path)
    assert (found.state, found.reason) == ("timeout", "no end within 3 s")
    assert (tmp_path / "a.asked").exists()
    assert not alive(int((tmp_path / "a.begun").read_text()))


def test_an_error_of_the_caller_ends_what_still_runs(processes: Callable[..., Processes], tmp_path: Path) -> None:
    def fail(_: Task, __: Result) -> None:
        appeared(tmp_path / "b.begun")
        raise KeyError("caller")

    tasks = [task(work.meet, "a", name="a", count=1), task(work.wait, "b", name="b")]
    with pytest.raises(KeyError, match="caller"):
        processes(parallel=2).run(tasks, shared=tmp_path, listener=Listener(done=fail))
    assert (tmp_path / "b.asked").exists()
    assert not alive(int((tmp_path / "b.begun").read_text()))
    assert not (tmp_path / "scratch").exists()


def test_what_cannot_be_sent_is_refused_by_name(processes: Callable[..., Processes]) -> None:
    here = type("Here", (), {"__module__": "__main__"})
    with pytest.raises(ConfigError, match=r"Here is defined in the main script; define"):
        processes().run([task(work.add, number=1)], shared=here)
    with pytest.raises(ConfigError, match=r"'shared.arguments' must be something"):
        processes().run([task(work.add, number=1)], shared=task(work.add, number=lambda: 0))
    with pytest.raises(ConfigError, match="'shared' must be something that another process can load"):
        processes().run([task(work.add, number=1)], shared=lambda: 0)
    with pytest.raises(ConfigError, match="'one' must be something that another process can load"):
        processes().run([task(work.add, number=lambda: 0)])


def test_large_arrays_can_be_sent() -> None:
    refuse_unsendable(np.zeros(1 << 17, dtype=np.uint8))


PARENT = """
import sys, time
sys.path[:] = {path!r}
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have had ignored
from pathlib import Path
from imgcls.execution.base import Task
from imgcls.execution.processes import Processes
from tests.execution import work
folder = Path({folder!r})
tasks = [Task(name=name, function=work.wait, arguments={{"name": name}}) for name in "ab"]
Processes(parallel=2, scratch=folder / "scratch").run(tasks, shared=folder)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_do_not_outlive_their_parent(number: signal.Signals, tmp_path: Path) -> None:
    code = PARENT.format(path=sys.path, folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as parent:
        for name in "ab":
            appeared(tmp_path / f"{name}.begun")
        pids = [int((tmp_path / f"{name}.begun").read_text()) for name in "ab"]
        parent.send_signal(number)
        assert parent.wait(30) == -number
    deadline = time.monotonic() + 10
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(list(tmp_path.glob("*.asked"))) == (2 if number == signal.SIGINT else 0)


# Questions, tasks that depend on others, processes that are used again


def test_a_question_is_answered(executor: Executor) -> None:
    heard: list[Any] = []
    listener = Listener(heard=lambda _, message: heard.append(message), asked=lambda _, message: message + 1)
    assert executor.run([task(work.ask, number=4)], listener=listener)[0].get() == 5
    assert heard == ["told"]


def test_each_question_has_its_own_answer(executor: Executor) -> None:
    (found,) = executor.run([task(work.ask_twice)], listener=Listener(asked=lambda _, message: message + 1))
    assert found.get() == [2, 3]


def test_a_task_may_be_found_when_others_have_ended(executor: Executor) -> None:
    ended: list[str] = []

    def tasks() -> Iterator[Task | None]:
        yield task(work.add, "first", number=1)
        while not ended:
            yield None
        yield task(work.add, "second", number=2)

    found = executor.run(tasks(), shared=0, listener=Listener(done=lambda task, _: ended.append(task.name)))
    assert [result.value for result in found] == [1, 2]


def test_a_process_is_used_again_after_a_task_that_is_done(processes: Callable[..., Processes], tmp_path: Path) -> None:
    names = [task(work.process_of, f"t{number}") for number in range(3)]
    broken = task(work.fail, "broken", error=DataError("no"))
    found = processes(reuse=True, logs=tmp_path).run([*names, broken, task(work.process_of, "last")])
    assert not list(tmp_path.glob("*.log"))  # they printed nothing
    pids = [result.value["pid"] for result in found if result.value]
    assert len(set(pids[:3])) == 1
    assert pids[3] != pids[0]
    assert not any(map(alive, pids))


def test_a_process_that_dies_between_two_tasks_is_replaced(processes: Callable[..., Processes]) -> None:
    def tasks() -> Iterator[Task]:
        yield task(work.process_of, "first")
        os.kill(pids[0], signal.SIGKILL)
        yield task(work.process_of, "second")

    def done(_: Task, result: Result) -> None:
        if result.state == "done":  # a second one may have been given to the process before its end was seen
            pids.append(result.value["pid"])

    pids: list[int] = []
    found = processes(reuse=True).run(tasks(), listener=Listener(done=done))
    assert found[1].state == "done" or found[1].reason.startswith("a process that was killed")


def test_who_asks_while_all_ends_is_answered_with_nothing(processes: Callable[..., Processes], tmp_path: Path) -> None:
    def asked(one: Task, _: Any) -> None:
        appeared(tmp_path / "a.begun")
        appeared(tmp_path / "b.begun")
        raise ValueError(one.name)

    tasks = [task(work.ask_deaf, name, name=name) for name in "ab"]
    with pytest.raises(ValueError, match=r"a|b"):
        processes(parallel=2).run(tasks, shared=tmp_path, listener=Listener(asked=asked))
    assert {path.name for path in tmp_path.glob("*.None")} == {"a.None", "b.None"}
