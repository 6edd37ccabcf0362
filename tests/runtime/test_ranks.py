import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from sklearn.metrics import log_loss

from imgcls.core.errors import ConfigError
from imgcls.core.folders import hold
from imgcls.evaluation.predictions import Predictions
from imgcls.runtime import ranks
from imgcls.runtime.ranks import Ranks, joined

WORKER = Path(__file__).with_name("ranks_worker.py")
TORCHRUN = Path(sys.executable).with_name("torchrun")

Process = subprocess.Popen[str]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def command(task: str, folder: Path, options: Mapping[str, Any]) -> list[str]:
    return [str(WORKER), task, str(folder), json.dumps(options)]


def begin(folder: Path, *, world: int = 2, task: str = "train", **options: Any) -> list[Process]:
    """Start processes with the variables that torchrun would set."""
    port = str(free_port())
    own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    base = {name: value for name, value in os.environ.items() if name != "IMGCLS_QUIET"}
    return [
        subprocess.Popen(
            [sys.executable, *command(task, folder, options)],
            env={**base, **own, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def end(processes: list[Process], codes: set[int]) -> list[str]:
    """Wait for processes, none of which may hang, and give what each said."""
    try:
        said = [process.communicate(timeout=90)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert {process.returncode for process in processes} <= codes, said
    return said


def weights(run: Path) -> dict[str, np.ndarray[Any, Any]]:
    found: dict[str, np.ndarray[Any, Any]] = load_file(
        max((run / "fold_0" / "checkpoints" / "last").glob("*.safetensors"))
    )
    return found


def check_same(run: Path, other: Path) -> None:
    for name, value in weights(other).items():
        np.testing.assert_allclose(weights(run)[name], value, rtol=0, atol=1e-6, err_msg=name)
    for split in ("val", "test"):
        one, two = (Predictions.load(folder / "fold_0" / f"predictions_{split}.npz") for folder in (run, other))
        assert one.ids.tolist() == two.ids.tolist()
        np.testing.assert_allclose(one.probs, two.probs, rtol=0, atol=1e-6)
    first, second = (
        np.genfromtxt(folder / "fold_0" / "history.csv", delimiter=",", names=True) for folder in (run, other)
    )
    for name in set(first.dtype.names or ()) - {"seconds"}:
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    def wait(done: Callable[[], bool]) -> None:
        limit = time.monotonic() + 60
        while not done():
            assert time.monotonic() < limit
            time.sleep(0.02)

    return wait


# One process


@given(world=st.integers(1, 9), count=st.integers(0, 40))
def test_shares_are_a_batch_in_order_and_none_is_a_single_record(world: int, count: int) -> None:
    positions = np.arange(count) + 100
    shares = [Ranks(rank=rank, world=world).share(positions) for rank in range(world)]
    np.testing.assert_array_equal(np.concatenate([share for _, share in shares]), positions)
    assert all(positions[begin : begin + len(share)].tolist() == share.tolist() for begin, share in shares)
    sizes = [len(share) for _, share in shares]
    assert count == 1 or 1 not in sizes
    assert max(sizes) - min(size for size in sizes if size or not count) <= 1


def test_alone_all_of_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as found:
        assert found == Ranks(rank=0, world=1)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, r"'WORLD_SIZE' must come from a launcher, got \['RANK', .*start with torchrun"),
        ({"WORLD_SIZE": "two"}, "'WORLD_SIZE' must be a whole number, got 'two'"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}, "MASTER_PORT"),
    ],
)
def test_variables_that_no_launcher_sets_so_are_refused(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message), joined("cpu"):
        pass


@pytest.mark.parametrize("rank", ["0", "1"])
def test_processes_that_do_not_come_are_an_error(rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks._MEETING < 30
    monkeypatch.setattr(ranks, "_MEETING", 1)
    variables = {"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**variables, "MASTER_PORT": str(free_port())}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"got 2 and not all came within 1 s; start with torchrun --nproc_per_node 2"):
        joined("cpu").__enter__()


# Two processes


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    said = end(begin(tmp_path / "two", task="primitives"), {0})
    end(begin(tmp_path / "one", world=1), {0})
    check_same(tmp_path / "two", tmp_path / "one")
    two, one = (json.loads((tmp_path / name / "steps.json").read_text()) for name in ("two", "one"))
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-6)
    assert "Fold 1/1" in said[0]
    assert said[1] == ""


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_two_processes_that_are_stopped_go_on_in_any_number(
    world: int, tmp_path: Path, until: Callable[[Callable[[], bool]], None]
) -> None:
    end(begin(tmp_path / "whole", checkpoint_every=1), {0})
    found = begin(tmp_path / "stopped", checkpoint_every=1, pause=0.2)
    last = tmp_path / "stopped" / "fold_0" / "checkpoints" / "last"
    until(lambda: len(list(last.glob("*.json"))) > 1)
    found[1].send_signal(signal.SIGTERM)  # all stop in the same step, whoever gets the signal
    stopped = time.time()
    said = end(found, {75})
    assert max(file.stat().st_mtime for file in last.glob("*.json")) < stopped + 10
    assert "the same command goes on" in said[0]
    end(begin(tmp_path / "stopped", checkpoint_every=1, world=world), {0})
    check_same(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_that_are_killed_go_on_to_the_same_bits(
    tmp_path: Path, until: Callable[[Callable[[], bool]], None]
) -> None:
    end(begin(tmp_path / "whole", checkpoint_every=1), {0})
    last = tmp_path / "killed" / "fold_0" / "checkpoints" / "last"
    for _ in range(2):
        before = set(last.glob("*.json"))
        found = begin(tmp_path / "killed", checkpoint_every=1, pause=0.2)
        until(lambda before=before: bool(set(last.glob("*.json")) - before))  # type: ignore[misc]
        for process in found:
            process.kill()
        end(found, {-signal.SIGKILL})
    end(begin(tmp_path / "killed", checkpoint_every=1), {0})
    expected = weights(tmp_path / "whole")
    assert all(np.array_equal(value, expected[name]) for name, value in weights(tmp_path / "killed").items())


@pytest.mark.slow
def test_every_process_validates_with_the_model_that_is_kept(tmp_path: Path) -> None:
    """With batch norm, whose running statistics each process would have for itself."""
    end(begin(tmp_path / "run", small=True, stages=[{"epochs": 1, "lr": 0.03}]), {0})
    found = Predictions.load(tmp_path / "run" / "fold_0" / "predictions_val.npz")
    history = np.genfromtxt(tmp_path / "run" / "fold_0" / "history.csv", delimiter=",", names=True)
    assert float(history["val_loss"]) == pytest.approx(log_loss(found.labels, found.probs), abs=1e-5)


@pytest.mark.slow
def test_small_batches_leave_nobody_with_a_single_record(tmp_path: Path) -> None:
    """Batch norm would refuse it; images are streamed, where a share without records is a case of its own."""
    head = {"depth": 2, "width": 4}
    end(begin(tmp_path / "run", small=True, head=head, batch_size=3, store="stream", workers=2), {0})


@pytest.mark.slow
def test_where_one_process_fails_the_others_do_not_wait(tmp_path: Path) -> None:
    processes = begin(tmp_path / "run", fail=2)
    assert processes[0].wait(timeout=90) == 1
    failed = time.monotonic()
    assert "on purpose" in end(processes, {1})[0]
    assert time.monotonic() - failed < 20


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_under_torchrun_a_signal_to_the_whole_group_leaves_a_checkpoint(
    number: signal.Signals, tmp_path: Path, until: Callable[[Callable[[], bool]], None]
) -> None:
    """The launcher passes on what its processes got anyway."""
    torchrun = [str(TORCHRUN), "--nproc_per_node", "2", *command("train", tmp_path / "run", {"pause": 0.5})]
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(torchrun, env=own, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until((tmp_path / "run" / "fold_0" / "balance.json").exists)
    time.sleep(1.2)
    os.killpg(process.pid, number)
    process.communicate(timeout=60)
    facts = [json.loads(file.read_text())["facts"] for file in tmp_path.glob("run/fold_0/checkpoints/last/*.json")]
    assert facts[-1]["step"] > 0
    end(begin(tmp_path / "run"), {0})
    assert (tmp_path / "run" / "run.json").exists()


@pytest.mark.slow
def test_a_run_in_use_is_refused_by_all_processes(tmp_path: Path) -> None:
    with hold(tmp_path / "run" / ".lock"):
        said = end(begin(tmp_path / "run"), {1})
    assert "held by another process" in said[0]
