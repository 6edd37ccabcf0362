"""The report on machine, packages and code."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from imgcls.core.environment import environment


def test_machine_packages_and_command_are_named() -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["python"] == platform.python_version()
    assert found["processor"]
    assert 1 <= found["usable_cpus"] <= found["cpus"] == os.cpu_count()
    assert found["memory"] is None or found["memory"] > 2**28
    assert found["command"] == sys.argv
    assert found["packages"]["torch"] == metadata.version("torch")
    assert next(iter(found["packages"])) == "imgcls"
    assert "ruff" not in found["packages"]


def test_callers_add_what_they_know() -> None:
    found = environment(seed=42, fingerprint="abc", gpu=("H200",), out=Path("runs"))
    wanted = {"seed": 42, "fingerprint": "abc", "gpu": ["H200"], "out": "runs"}
    assert {name: found[name] for name in wanted} == wanted


def test_variables_of_threads_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    found = environment()["variables"]
    assert found["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in found


def test_the_state_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment()["git"] is None
    who = ["-c", "user.name=x", "-c", "user.email=x@y"]
    for words in (["init", "--quiet"], [*who, "commit", "--quiet", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *words], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert environment()["git"] == {"commit": commit, "changed": False}
    (tmp_path / "new.txt").touch()
    assert environment()["git"] == {"commit": commit, "changed": True}


def test_without_git_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment()["git"] is None
