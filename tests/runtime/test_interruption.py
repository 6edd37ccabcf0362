import signal
import threading
from collections.abc import Callable

import pytest

from imgcls.runtime import interruption
from imgcls.runtime.interruption import EXIT_CODE, Interrupted, at_once, deferred, interruptible, wanted

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def interrupted(block: Callable[[], None]) -> None:
    with pytest.raises(Interrupted), interruptible():
        block()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_with_an_exit_code_that_says_go_on(number: signal.Signals) -> None:
    with pytest.raises(SystemExit) as caught, interruptible():
        signal.raise_signal(number)
    assert isinstance(caught.value, Interrupted)
    assert caught.value.code == EXIT_CODE == 75


def test_what_happens_next_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")
    with pytest.raises(Interrupted), interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert "the same command goes on from here" in capsys.readouterr().err


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with interruptible():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_deferred_goes_on_and_a_request_nobody_asked_for_ends_it_afterwards(number: signal.Signals) -> None:
    done: list[object] = []

    def block() -> None:
        with deferred():
            done.append(wanted())
            signal.raise_signal(number)
            done.extend(["rest", wanted()])
        done.append("after")

    interrupted(block)
    assert done == [False, "rest", True]


def test_an_error_in_a_deferred_block_is_not_hidden_by_a_signal() -> None:
    def block() -> None:
        with interruptible(), deferred():
            signal.raise_signal(signal.SIGTERM)
            raise KeyError

    with pytest.raises(KeyError):
        block()


def test_the_same_request_that_comes_twice_is_one() -> None:
    done = []

    def block() -> None:
        with deferred():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            done.append("rest")

    interrupted(block)
    assert done == ["rest"]


def test_a_request_that_comes_twice_does_not_disturb_what_tidies_up() -> None:
    done = []

    def block() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            done.append("tidy")

    interrupted(block)
    assert done == ["tidy"]


def test_a_second_request_some_time_later_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "_SAME", 0.0)
    done = []

    def block() -> None:
        with deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("first")
            signal.raise_signal(signal.SIGINT)
            done.append("second")

    interrupted(block)
    assert done == ["first"]


@pytest.mark.parametrize("before", [True, False])
def test_where_nothing_is_to_be_saved_a_request_ends_at_once(before: bool) -> None:
    done = []

    def block() -> None:
        with deferred():
            if before:
                signal.raise_signal(signal.SIGTERM)
            with at_once():
                signal.raise_signal(signal.SIGTERM)
                done.append("block")
            done.append("after")

    interrupted(block)
    assert not done


def test_a_request_is_forgotten_with_its_training() -> None:
    for _ in range(2):
        interrupted(lambda: signal.raise_signal(signal.SIGTERM))
        assert not wanted()


def test_in_another_thread_signals_are_left_alone() -> None:
    found = []

    def work() -> None:
        with interruptible():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
