from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgcls.core import folders
from imgcls.core.errors import RunError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def half_written(folder: Path) -> None:
    folder.mkdir()
    (folder / "a").write_text("x")
    (folder / "a" / "b").mkdir()


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), folders.whole(tmp_path / "a.txt") as temporary:
        temporary.write_text(f"half {1 / temporary.write_text('')}")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_file_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with folders.whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_folder_appears_whole(tmp_path: Path) -> None:
    with folders.whole(tmp_path / "out") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "a").write_text("x")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "deep" / "a").read_text() == "x"


def test_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError), folders.whole(tmp_path / "out") as temporary:
        half_written(temporary)
    assert names(tmp_path) == []


def test_remains_of_a_killed_process_of_the_same_number_do_not_matter(tmp_path: Path) -> None:
    stale = tmp_path / f".out.tmp-{os.getpid()}"
    stale.mkdir()
    (stale / "half").write_text("x")
    with folders.whole(tmp_path / "out") as temporary:
        temporary.mkdir()
    assert names(tmp_path / "out") == []


def test_json_round_trip_and_no_nan(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, "ä"]}
    folders.write_json(tmp_path / "a.json", value)
    assert folders.read_json(tmp_path / "a.json") == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        folders.write_json(tmp_path / "a.json", float("nan"))


def test_missing_and_damaged_json_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(RunError, match=r"existing file, got .*none\.json"):
        folders.read_json(tmp_path / "none.json")
    with pytest.raises(RunError, match=r"half\.json'; it is damaged"):
        folders.read_json(tmp_path / "half.json")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 1000)
    assert folders.sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_new_folder_takes_the_next_free_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = [folders.new_folder(None, prefix="trial") for _ in range(2)]
    assert made == [Path("runs/trial-001"), Path("runs/trial-002")]


def test_new_folder_refuses_one_in_use(tmp_path: Path) -> None:
    assert folders.new_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    folders.new_folder(tmp_path / "a" / "b")  # empty: fine
    with pytest.raises(RunError, match=r"'out' must be a new or empty folder.*delete the old run"):
        folders.new_folder(tmp_path / "a")


def test_lock_of_another_process_is_respected(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from imgcls.core.folders import hold"
    code += "\nwith hold(Path(sys.argv[1]), timeout=0): pass"
    command = [sys.executable, "-c", code, str(tmp_path / "deep" / "lock")]
    with folders.hold(tmp_path / "deep" / "lock"):
        held = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "is held by another process" in held.stderr
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_cache_folder_follows_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGCLS_CACHE", "/x/y")
    assert folders.cache_folder() == Path("/x/y")
    monkeypatch.delenv("IMGCLS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/z")
    assert folders.cache_folder() == Path("/z/imgcls")
