"""A result takes the place of an earlier one as a whole or not at all, and of nothing else."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from captum_gradeclip import report
from captum_gradeclip.results import Results

from .test_files import contents

NAMES = re.compile(r"map-\d+\.txt|strip\.txt")
OLD, NEW = {f"map-{n}.txt": f"old {n}" for n in range(4)}, {f"map-{n}.txt": f"new {n}" for n in range(1, 3)}
OLD["strip.txt"], NEW["strip.txt"], NEW["map-7.txt"] = "old strip", "new strip", "new 7"


def results(folder: Path, *keep: Path) -> Results:
    return Results(folder, "about.json", NAMES, keep)


def write(folder: Path, texts: dict[str, str], *keep: Path) -> None:
    with results(folder, *keep).replacing({"number": 1.5, "nan": float("nan"), "texts": sorted(texts)}) as part:
        for name, text in texts.items():
            (part / name).write_text(text)


@pytest.fixture
def both(tmp_path: Path) -> tuple[dict[str, bytes | None], dict[str, bytes | None]]:
    """What a folder holds with the old and with the new result, and always a file of somebody else."""
    found = []
    for texts in (OLD, NEW):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "mine.txt").write_text("mine")
        write(tmp_path / "model", texts)
        found.append(contents(tmp_path / "model"))
        shutil.rmtree(tmp_path / "model")
    return found[0], found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    write(tmp_path / "out", OLD)
    return tmp_path / "out"


Both = tuple[dict[str, bytes | None], dict[str, bytes | None]]


def test_a_new_result_replaces_an_old_one(folder: Path, both: Both) -> None:
    assert contents(folder) == both[0]
    write(folder, NEW)
    assert contents(folder) == both[1]
    told = json.loads((folder / "about.json").read_text())
    assert told["files"].keys() == NEW.keys() and told["nan"] is None


@pytest.mark.parametrize("name", ["map-0.txt", "map-2.txt", "mine.txt"])
def test_what_was_changed_is_not_of_the_result_any_more(folder: Path, name: str) -> None:
    """The first is of the old result only, the second has its place in both, the third was never of one."""
    (folder / name).write_text("edited by hand")
    before = contents(folder)
    if name == "map-2.txt":
        with pytest.raises(
            FileExistsError, match=r"^folder: '.*map-2\.txt' is not of an earlier result, or has been changed"
        ):
            results(folder).check(NEW)
        with pytest.raises(FileExistsError, match="^folder: "):
            write(folder, NEW)
        assert contents(folder) == before
    else:
        results(folder).check(NEW)
        write(folder, NEW)
        assert (folder / name).read_text() == "edited by hand"


@pytest.mark.parametrize("foreign", ["about.json", "strip.txt", "map-7.txt"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_was_there_before_is_never_replaced(tmp_path: Path, foreign: str, kind: str) -> None:
    place = tmp_path / foreign
    if kind == "file":
        place.write_text('{"files": {"strip.txt": ""}}')
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(tmp_path / "elsewhere")
    before = {one: os.lstat(one) for one in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match=re.escape(foreign)):
        write(tmp_path, NEW)
    assert {one: os.lstat(one) for one in tmp_path.iterdir()} == before


def test_a_manifest_is_believed_only_as_it_was_written(folder: Path) -> None:
    """One that was edited could list files that no result has ever held."""
    told = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps(told))  # the same in another layout
    results(folder).check(NEW)
    for changed in ({"number": 2}, {"files": {}}, {"checksum": ""}):
        (folder / "about.json").write_text(json.dumps({**told, **changed}))
        with pytest.raises(FileExistsError, match=r"about\.json"):
            results(folder).check(NEW)


def test_a_manifest_names_no_file_of_another_kind(tmp_path: Path) -> None:
    """Whoever writes a manifest with a true checksum still has no way to the files of others."""
    with Results(tmp_path, "about.json", re.compile(".*")).replacing({}) as part:
        (part / "thesis.txt").write_text("mine")
    write(tmp_path, NEW)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_picture_that_is_explained_is_kept(folder: Path) -> None:
    """Also where it is of the old result, and whatever it is called there."""
    before = contents(folder)
    link = folder.parent / "link.txt"
    link.symlink_to(folder / "map-1.txt")
    with pytest.raises(FileExistsError, match=r"map-1\.txt' is the picture itself"):
        write(folder, NEW, link)
    assert contents(folder) == before
    write(folder, NEW, folder / "map-0.txt")
    assert (folder / "map-0.txt").read_text() == "old 0"


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for run in (lambda: results(tmp_path / "out").check(NEW), lambda: write(tmp_path / "out", NEW)):
        with pytest.raises((NotADirectoryError, FileExistsError)):
            run()
    assert contents(tmp_path) == {"out": b"mine"}


CALLS = ("replace", "rename", "link", "fsync", "mkdir")


def interrupted(at: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has the call of this number, of all that change the disk, do something else; returns the calls in their order."""
    made: list[str] = []

    def wrap(name: str) -> Callable[..., object]:
        original = getattr(os, name)

        def call(*given: object, **more: object) -> object:
            made.append(name)
            if len(made) == at + 1:
                act()
            return original(*given, **more)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, wrap(name))
    return made


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_call_leaves_all_of_the_old_result(
    folder: Path, both: Both, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        calls = interrupted(-1, lambda: None, patch)
        write(folder, NEW)
    assert len(calls) > 15
    failed = 0
    for at in range(len(calls)):
        write(folder, OLD)
        with monkeypatch.context() as patch:
            interrupted(at, raising(error), patch)
            try:
                write(folder, NEW)
            except type(error):
                failed += 1
                assert contents(folder) == both[0], f"{calls[at]}, call {at} of {calls}"
            else:  # where there are no hard links, and for a folder that is there, a failure is none
                assert calls[at] in ("link", "mkdir") and contents(folder) == both[1]
    assert failed >= len(calls) - calls.count("link") - 1


def test_a_failure_leaves_no_folder_that_was_not_there(tmp_path: Path) -> None:
    def half(part: Path) -> None:
        (part / "strip.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), results(tmp_path / "a" / "b").replacing({}) as part:
        half(part)
    assert not contents(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_run_that_is_killed_at_any_call(folder: Path, both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run finds all of the old result, or makes what was begun into all of the new one, and removes the rest."""
    calls = interrupted(-1, lambda: None, monkeypatch)
    write(folder, NEW)
    monkeypatch.undo()
    found = set()
    for at in range(len(calls)):
        write(folder, OLD)
        child = os.fork()
        if child == 0:
            with pytest.MonkeyPatch.context() as patch:
                interrupted(at, lambda: os.kill(os.getpid(), signal.SIGKILL), patch)
                write(folder, NEW)
            os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        with pytest.raises(KeyboardInterrupt), results(folder).replacing({}):
            raise KeyboardInterrupt  # nor does the next run have to be one that succeeds
        now = contents(folder)
        assert now in both, f"{calls[at]}, call {at} of {calls}: {sorted(now)}"
        found.add(both.index(now))
    assert found == {0, 1}


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    children = []
    for one, texts in enumerate((OLD, NEW)):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(40):
                    write(tmp_path, texts)
            finally:
                os._exit(one if sys.exc_info()[0] is None else 9)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 1]
    told = json.loads((tmp_path / "about.json").read_text())["texts"]
    expected = OLD if told == sorted(OLD) else NEW
    assert {one.name: one.read_text() for one in tmp_path.iterdir() if one.name != "about.json"} == expected


@pytest.mark.parametrize("text", ["a red circle", "एक लाल कुत्ता", "红色的圆", "كلب أحمر", "🐶", "x_1"])
def test_names_of_overlays_are_known_as_ours_in_every_script(text: str) -> None:
    assert report._OF_EXPLANATION.fullmatch(f"overlay-3-{report.slug(text)}.png")


@pytest.mark.parametrize("name", ["overlay-1-photo (1).png", "overlay-1-my.photo.png", "overlay-one.png", "overlay-1-.png"])
def test_a_users_own_file_is_not_taken_for_an_overlay(name: str) -> None:
    assert not report._OF_EXPLANATION.fullmatch(name)
