"""Files are whole or not there, whatever happens while they are written, and JSON is JSON."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from captum_gradeclip import files


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file may become larger than so many bytes: what a disk that is nearly full looks like to those who write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, hidden or not, with what the files hold."""
    return {str(one.relative_to(folder)): one.read_bytes() if one.is_file() else None for one in folder.rglob("*")}


def fail(error: BaseException) -> Callable[..., None]:
    def failing(*_: object, **__: object) -> None:
        raise error

    return failing


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), PermissionError(errno.EACCES, "Permission denied")])
def test_what_lay_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException) -> None:
    files.write_text(tmp_path / "a.txt", "before")
    before = contents(tmp_path)
    monkeypatch.setattr(os, function, fail(error))
    with pytest.raises(type(error)) as caught:
        files.write_text(tmp_path / "a.txt", "after")
    assert contents(tmp_path) == before
    if isinstance(error, OSError):
        assert caught.value.filename == str(tmp_path / "a.txt")
    with pytest.raises(type(error)):
        files.write_text(tmp_path / "new.txt", "after")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), SystemExit(3), ValueError("no figure")])
def test_an_exception_of_the_one_who_writes(tmp_path: Path, error: BaseException) -> None:
    def half(part: Path) -> None:
        part.write_text("half")
        raise error

    with pytest.raises(type(error)), files.replacing(tmp_path / "a.txt") as part:
        half(part)
    assert not contents(tmp_path)


def test_a_full_disk(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "a.bin", b"before")
    before = contents(tmp_path)
    with full_after(1000), pytest.raises(OSError, match="too large") as caught:
        files.write_bytes(tmp_path / "a.bin", bytes(5000))
    assert caught.value.filename == str(tmp_path / "a.bin") and contents(tmp_path) == before


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match="directory") as caught:
        files.write_text(tmp_path / "a.txt", "text")
    assert caught.value.filename == str(tmp_path / "a.txt") and contents(tmp_path) == {"a.txt": None}


def test_texts_that_belong_together(tmp_path: Path) -> None:
    texts = {"a.csv": "1", "a.md": "2" * 5000, "a.tex": "3"}
    files.write_texts(tmp_path, dict.fromkeys(texts, "before"))
    before = contents(tmp_path)
    with full_after(1000), pytest.raises(OSError, match="too large"):
        files.write_texts(tmp_path, texts)
    assert contents(tmp_path) == before
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_texts(tmp_path, {"a.csv": "1", "b.csv": "2"})
    assert contents(tmp_path) == {**before, "b.csv": None}
    files.write_texts(tmp_path, texts)
    assert {one: (tmp_path / one).read_text() for one in texts} == texts


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2]); from captum_gradeclip import files; from pathlib import Path\n"
        "with files.replacing(Path(sys.argv[1], 'b.txt')) as part:\n"
        "    part.write_text('half'); (files.temporary(Path(sys.argv[1])) / 'inner').mkdir(parents=True); time.sleep(600)"
    )
    # The module alone is imported, since the package would load torch.
    code = code.replace("from captum_gradeclip import files", "import files")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(Path(files.__file__).parent)])
    try:
        while len(list(tmp_path.iterdir())) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        files.write_text(tmp_path / "a.txt", "whole")
        assert len(list(tmp_path.iterdir())) == 3
    finally:
        process.kill()
    end = time.monotonic() + 60
    while list(tmp_path.glob(".*")):  # they are gone before anybody has asked for the end of the process, but not at once
        assert time.monotonic() < end
        files.write_text(tmp_path / "a.txt", "whole")
    process.wait()
    other = tmp_path / f".gradeclip-00000000-{process.pid}-00000000-00000000.txt"  # of another machine
    other.write_text("")
    files.write_text(tmp_path / "a.txt", "whole")
    assert sorted(one.name for one in tmp_path.iterdir()) == [other.name, "a.txt"]


def test_a_leftover_of_an_earlier_process_of_the_same_number(tmp_path: Path) -> None:
    mine = files.temporary(tmp_path)
    mine.write_text("")
    earlier = mine.with_name(mine.name.replace(files._PROCESS, "0" * 8))
    earlier.write_text("")
    files.sweep(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [mine.name]


NUMBERS = st.floats() | st.integers() | st.none() | st.booleans() | st.text(st.characters(), max_size=9)
VALUES = st.recursive(
    NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@given(VALUES)
def test_json_is_json_and_says_the_same(value: object) -> None:
    text = files.to_json(value)
    assert json.loads(text.encode(), parse_constant=refuse) == finite(value)


def test_arrays(tmp_path: Path) -> None:
    files.write_npz(tmp_path / "a.npz", {"a b": np.arange(3), "texts": np.array(["x"])})
    stored = np.load(tmp_path / "a.npz")
    assert list(stored["a b"]) == [0, 1, 2] and list(stored["texts"]) == ["x"]
