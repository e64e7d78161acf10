"""How far loops are: bars inside each other on a terminal, lines where there is none, nothing unless it was asked for."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from captum_gradeclip import progress
from captum_gradeclip.progress import display, duration, track

Told = pytest.CaptureFixture[str]


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock of one number, which stands still unless a test moves it."""
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def test_loops_inside_each_other_have_a_bar_each(clock: list[float]) -> None:
    console = terminal()
    with display(console), display():  # the inner context changes nothing
        for _ in track(["RISE", "[red] GAME"], "methods", name=str):
            for _ in track(range(8), "passes", disable=True):
                clock[0] += 1
    lines = shown(console).splitlines()
    assert any(line.startswith("\x1b[2Kmethods: RISE") and "0 of 2" in line for line in lines)
    assert any(line.startswith("passes") and "3 of 8" in line for line in lines)
    assert any("methods: [red] GAME" in line and "1 of 2" in line for line in lines)
    assert not list(track([], "nothing", disable=True))


def test_costs_say_how_long_the_rest_takes(clock: list[float], capsys: Told) -> None:
    for step in track(["a", "b", "c", "d"], "work", name=str, costs=[1, 1, 2, 60], done=3):
        clock[0] += {"a": 1, "b": 1, "c": 2, "d": 60}[step]
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines()[0] == "work: a took 1.0 s; 4 of 7 done"
    assert said.err.splitlines()[2:] == [
        "work: c took 2.0 s; 6 of 7 done, about 60 s left",
        "work: d took 60 s; 7 of 7 done",
    ]


def test_without_a_terminal_a_line_now_and_then(clock: list[float], capsys: Told) -> None:
    for _ in track(range(10), "passes"):
        clock[0] += 20
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.partition(",")[0] for line in said.err.splitlines()] == [
        f"passes: {n} of 10 done" for n in (2, 4, 6, 8, 10)
    ]
    list(track((one for one in "ab"), "of unknown length"))
    assert capsys.readouterr().err == ""  # what is quickly done is not worth a line


def test_nothing_is_shown_unless_it_was_asked_for(capsys: Told) -> None:
    assert list(track([1, 2], "steps", name=str, disable=True)) == [1, 2]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_after_an_error_nothing_is_left(error: type[BaseException], capsys: Told) -> None:
    kept = track(range(3), "kept")

    def fail(number: int) -> None:
        next(kept)
        raise error

    with pytest.raises(error), display(terminal()):
        list(map(fail, track(range(3), "outer", name=str)))
    assert list(kept) == [1, 2]  # a loop that goes on after its display has ended
    assert list(track(range(2), "alone", disable=True)) == [0, 1]
    assert "alone" not in capsys.readouterr().err


def test_a_loop_that_is_left_takes_its_bar_with_it(clock: list[float]) -> None:
    console = terminal()
    with display(console):
        for number in track(range(3), "outer"):
            clock[0] += 1
            for _ in track(range(5), f"inner {number}"):
                break
    last = shown(console).rpartition("outer")[2]
    assert "inner" not in last


def test_times_in_words() -> None:
    assert [duration(one) for one in (0.04, 2.94, 99.4, 6000)] == ["0.0 s", "2.9 s", "99 s", "100 min"]
