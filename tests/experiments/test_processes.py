"""Processes that are launched together share the work; one that dies costs only what it had not written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import accelerate
import pytest
import torch

from captum_gradeclip import experiments
from captum_gradeclip.adapters import loading
from captum_gradeclip.experiments import ProcessError
from captum_gradeclip.experiments.processes import Processes
from captum_gradeclip.experiments.runner import _agree

# What each process writes is told beside the records, which say nothing of who measured them.
PROGRAM = """
import os, sys
from captum_gradeclip.experiments import Records
write = Records.write
def told(self, chunk, records):
    write(self, chunk, records)
    with open(os.environ["WRITTEN"], "a") as file:
        file.write(f"{os.environ.get('RANK')} {os.getpid()} {chunk}\\n")
Records.write = told
from captum_gradeclip.cli import main
sys.exit(main())
"""
CHUNKS = 24
SAMPLES = 4  # of each chunk, a twentieth of all


class Runs:
    """Runs of one command, each in a folder of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "program.py").write_text(PROGRAM)

    def start(self, out: str, processes: int, written: str) -> subprocess.Popen[str]:
        launch = [sys.executable]
        if processes > 1:
            launch += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        launch += [str(self.place / "program.py"), "benchmark", "faithfulness", "--samples", str(SAMPLES * CHUNKS)]
        launch += ["--methods", "Grad-ECLIP", "--out", str(self.place / out)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "WRITTEN": str(self.place / written)}
        return subprocess.Popen(launch, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, out: str, processes: int, written: str) -> str:
        process = self.start(out, processes, written)
        said, error = process.communicate(timeout=300)
        assert process.returncode == 0, error[-3000:]
        return said

    def written(self, name: str) -> list[tuple[str, int, int]]:
        """Rank, process and chunk of all that was written."""
        path = self.place / name
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(rank, int(pid), int(chunk)) for rank, pid, chunk in lines]

    def files(self, out: str) -> dict[str, bytes]:
        folder = self.place / out
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """With one run of a single process, undisturbed, in the folder ``one``."""
    found = Runs(tmp_path_factory.mktemp("runs"))
    found.finish("one", 1, "one.txt")
    assert [chunk for _, _, chunk in found.written("one.txt")] == list(range(CHUNKS))
    return found


@pytest.mark.slow
def test_two_processes_measure_half_each_and_equal_one(runs: Runs) -> None:
    said = runs.finish("two", 2, "two.txt")
    written = runs.written("two.txt")
    shares = {rank: sorted(chunk for own, _, chunk in written if own == rank) for rank in ("0", "1")}
    assert len({pid for _, pid, _ in written}) == 2
    assert shares == {"0": list(range(0, CHUNKS, 2)), "1": list(range(1, CHUNKS, 2))}
    assert runs.files("two") == runs.files("one")  # record for record, and the tables
    assert len(re.findall("tables, curves and records are in", said)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "resumed"), [("1", 1), ("0", 2)])
def test_one_is_killed_and_the_run_goes_on(killed: str, resumed: int, runs: Runs) -> None:
    out, log = f"killed {killed}", f"killed-{killed}.txt"
    process = runs.start(out, 2, log)
    while len({rank for rank, _, _ in runs.written(log)}) < 2:  # until both are at work
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.01)
    os.kill(next(pid for rank, pid, _ in runs.written(log) if rank == killed), signal.SIGKILL)
    began = time.monotonic()
    _, error = process.communicate(timeout=60)
    assert time.monotonic() - began < 40 and process.returncode != 0
    assert "gradeclip: told to end (SIGTERM); what has been measured is kept" in error
    before = runs.written(log)
    there = {int(name[-12:-6]) for name in runs.files(out) if "chunk-" in name and not name.endswith(".part")}
    assert {chunk for _, _, chunk in before} <= there and len(there) < CHUNKS
    runs.finish(out, resumed, log)
    again = [chunk for _, _, chunk in runs.written(log)[len(before) :]]
    assert sorted(again) == sorted(set(range(CHUNKS)) - there)  # what was there is not measured again
    assert runs.files(out) == runs.files("one")


@pytest.mark.slow
def test_without_a_launcher_that_watches_the_other_ends_by_itself(runs: Runs) -> None:
    """Two processes that found each other by their environment: a closed connection tells the one that is left."""
    programs = []
    for rank in range(2):
        environment = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29653"}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            programs.append(runs.start("watched", 1, "watched.txt"))
    while not runs.written("watched.txt"):
        assert programs[0].poll() is None, programs[0].communicate()[1][-3000:]
        time.sleep(0.01)
    programs[1].kill()
    _, error = programs[0].communicate(timeout=120)
    assert programs[0].returncode == 2
    assert "gradeclip: process 0 of 2: another process of this run has ended; start the run again" in error
    assert "Traceback" not in error


def test_processes_that_do_not_see_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where accelerate was set up before, without cpu=True, each process takes itself for the only one."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "PartialState", lambda **_: SimpleNamespace(num_processes=1, process_index=0))
    with pytest.raises(ProcessError, match="2 processes were launched, but accelerate knows of 1"):
        Processes.launched()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Processes.launched() == Processes(0, 1)


def test_what_fails_in_one_fails_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that failed says why; the others do not wait for it."""
    pair = Processes(0, 2)
    monkeypatch.setattr(Processes, "gather", lambda _, mine: [mine, (None, "out: it is full")])
    with pytest.raises(ProcessError, match="process 0 of 2 ends, since process 1 has failed: out: it is full"):
        pair.each(lambda: 1)

    def fails() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        pair.each(fails)
    monkeypatch.setattr(Processes, "gather", lambda _, mine: [mine, (2, None)])
    assert pair.each(lambda: 1) == [1, 2]


def test_processes_with_other_weights_do_not_share_a_run() -> None:
    """Random weights are others in each process; their records must not be mixed."""
    from captum_gradeclip.experiments.identity import identify

    task = experiments.TASKS["localization"][0]
    loaded, settings = loading.load(), experiments.Settings(methods=["random"])
    identities = [identify(task(loaded, experiments.Scenes(2), settings), 16)]
    _agree([*identities, *identities])
    with torch.no_grad():
        next(loaded.model.parameters()).mul_(1.5)
    identities.append(identify(task(loaded, experiments.Scenes(2), settings), 16))
    with pytest.raises(
        ProcessError, match=r"the processes of this run differ: weights \(there .* in process 0 and in process 1"
    ):
        _agree(identities)
