"""Records are taken up only if they are whole and of this very run; everything else is told."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_gradeclip import cli, experiments
from captum_gradeclip.adapters import loading
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.experiments import LockedError, Record, RecordError, Records, Sample, Scenes, Settings, identity, tasks
from captum_gradeclip.experiments.chunks import Chunks, checksum
from captum_gradeclip.experiments.lock import Lock

SETTINGS = Settings(methods=["random", "RawAttention"])
FLIPS = 240


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return loading.load()


class Changed(Scenes):
    """Scenes of which one sample is changed, though everything that the data set says about itself stays the same."""

    changes: Mapping[int, Callable[[Sample], Sample]] = {}

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return self.changes.get(index, lambda same: same)(sample)


def measure(
    loaded: Loaded,
    out: Path,
    data: Scenes | None = None,
    settings: Settings = SETTINGS,
    about: Mapping[str, object] | None = None,
) -> list[Record]:
    found = experiments.run(tasks.Localization, loaded, data or Scenes(10), settings, out, chunk=4, about=about)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, loaded: Loaded) -> tuple[Path, list[Record]]:
    """A finished run of three chunks, and its records."""
    out = tmp_path_factory.mktemp("done")
    return out, measure(loaded, out)


@pytest.fixture
def copied(done: tuple[Path, list[Record]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(done[0], tmp_path / "run"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def reopened(out: Path, loaded: Loaded) -> Records:
    chunks = Chunks(Scenes(10), 4)
    contents = [chunks.contents(number) for number in range(3)]  # drawn once, for hundreds of questions
    return Records(out, identity.identify(tasks.Localization(loaded, Scenes(10), SETTINGS), 4), contents.__getitem__)


def test_what_agrees_is_taken_up(
    copied: Path, done: tuple[Path, list[Record]], loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.Localization, "measure", lambda *_: pytest.fail("it was measured again"))
    assert measure(loaded, copied) == done[1]
    # Another spelling of a method, one that is named twice, and a copy of the weights are no other run.
    same = Loaded(deepcopy(loaded.model), loaded.tokenizer)
    assert measure(same, copied, settings=replace(SETTINGS, methods=["random", "raw attention", "RandomMap"])) == done[1]
    (copied / "run.json").unlink()
    assert measure(loaded, copied) == done[1] and files(copied) == files(done[0])


def other_weights(loaded: Loaded) -> Loaded:
    model = deepcopy(loaded.model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-3
    return Loaded(model, loaded.tokenizer)


def other_activation(loaded: Loaded) -> Loaded:
    model = deepcopy(loaded.model)
    for block in model.visual.transformer.resblocks:
        block.mlp.gelu = nn.SiLU()
    return Loaded(model, loaded.tokenizer)


def other_tokenizer(loaded: Loaded) -> Loaded:
    def reversed_words(texts: list[str]) -> torch.Tensor:
        assert loaded.tokenizer is not None
        return loaded.tokenizer([" ".join(text.split()[::-1]) for text in texts])

    return Loaded(loaded.model, reversed_words)


def other_statistics(loaded: Loaded) -> Loaded:
    return Loaded(loaded.model, loaded.tokenizer, ((0.4,) * 3, (0.5,) * 3))


@pytest.mark.parametrize("kept", [True, False], ids=["run.json there", "run.json gone"])
@pytest.mark.parametrize(
    ("named", "model", "data", "settings"),
    [
        (r"weights \(there \"", other_weights, Scenes(10), SETTINGS),
        (r"architecture \(there \"", other_activation, Scenes(10), SETTINGS),
        (r"prompts \(there \"", other_tokenizer, Scenes(10), SETTINGS),
        (r"input\.mean \(there \[0\.5", other_statistics, Scenes(10), SETTINGS),
        (r"dtype \(there \"torch\.float32\", now \"torch\.float64\"\)", None, Scenes(10), SETTINGS),
        (r"data\.seed \(there 0, now 7\)", Loaded, Scenes(10, seed=7), SETTINGS),
        (r"data\.length \(there 10, now 9\), samples", Loaded, Scenes(9), SETTINGS),
        (
            r"protocol \(there \"fair\", now \"release\"\), schedule",
            Loaded,
            Scenes(10),
            replace(SETTINGS, protocol="release"),
        ),
        (r"batch_size \(there 64, now 8\)", Loaded, Scenes(10), replace(SETTINGS, batch_size=8)),
        (r"methods \(there", Loaded, Scenes(10), replace(SETTINGS, methods=["random"])),
    ],
)
def test_what_differs_is_named(
    named: str,
    model: Callable[[Loaded], Loaded] | None,
    data: Scenes,
    settings: Settings,
    kept: bool,
    copied: Path,
    loaded: Loaded,
) -> None:
    before = files(copied)
    if not kept:
        (copied / "run.json").unlink()
        before.pop("run.json")
    if model is None:
        other = Loaded(deepcopy(loaded.model).double(), loaded.tokenizer)
    else:
        other = loaded if model is Loaded else model(loaded)
    with pytest.raises(
        RecordError, match=f"^out: .*another run is there, with other .*{named}.*choose another folder$"
    ) as said:
        measure(other, copied, data, settings)
    assert "\n" not in str(said.value) and len(str(said.value)) < 600
    assert files(copied) == before  # nothing is written into the folder of another run


def test_threads_versions_and_options_belong_to_a_run(
    copied: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(RecordError, match=rf"threads \(there {threads}, now {threads + 1}\)"):
            measure(loaded, copied)
    finally:
        torch.set_num_threads(threads)
    for name in ("captum_gradeclip", "torch"):
        known = identity.versions()
        with monkeypatch.context() as patch:
            patch.setattr(identity, "versions", lambda name=name, known=known: {**known, name: "0.0.1"})
            with pytest.raises(RecordError, match=rf"versions\.{name} \(there \"{known[name]}.*, now \"0\.0\.1\"\)"):
                measure(loaded, copied)
    with pytest.raises(RecordError, match=r"model \(there nothing, now \"ViT-B-32\"\)"):
        measure(loaded, copied, about={"model": "ViT-B-32"})
    settings = Settings(methods=["RISE"], rise_masks=2)
    measure(loaded, tmp_path / "rise", Scenes(2), settings)
    with pytest.raises(RecordError, match=r"options\.RISE\.n_masks \(there 2, now 3\), rise_masks"):
        measure(loaded, tmp_path / "rise", Scenes(2), replace(settings, rise_masks=3))


@pytest.mark.parametrize(
    "change",
    [
        lambda sample: replace(sample, image=Image.eval(sample.image, lambda value: value ^ 1)),
        lambda sample: replace(sample, segments=sample.segments.flip(0)),
        lambda sample: replace(sample, label=sample.label + 1),
        lambda sample: replace(sample, captions=("a star",)),
        lambda sample: replace(sample, id="another"),
    ],
    ids=["picture", "mask", "label", "captions", "id"],
)
def test_a_sample_that_has_changed_is_named(change: Callable[[Sample], Sample], copied: Path, loaded: Loaded) -> None:
    data = Changed(10)
    object.__setattr__(data, "changes", {6: change})
    before = files(copied)
    with pytest.raises(RecordError, match=r"the sample 'evaluation-0-000006' has changed since it was measured"):
        measure(loaded, copied, data)
    assert files(copied) == before


def test_every_flipped_bit_is_found(copied: Path, done: tuple[Path, list[Record]], loaded: Loaded) -> None:
    """Random bits of all files of a run; what is damaged is not believed, and what is whole still is."""
    names = [copied / "run.json", *sorted((copied / "records").iterdir())]
    ends = np.cumsum([8 * path.stat().st_size for path in names])
    rng, found, files_hit = np.random.default_rng(0), 0, set()
    good = files(copied)
    records = reopened(copied, loaded)
    for bit in rng.choice(int(ends[-1]), FLIPS, replace=False):
        which = int(np.searchsorted(ends, bit, side="right"))
        path, inside = names[which], int(bit) - (int(ends[which - 1]) if which else 0)
        content = bytearray(path.read_bytes())
        content[inside // 8] ^= 1 << inside % 8
        path.write_bytes(content)
        files_hit.add(path.name)
        if path.name == "run.json":
            Records(copied, records.settings)  # writes it anew, since the chunks know whose they are
            found += files(copied) == good
            continue
        chunk = int(path.stem[-6:])
        found += [records.has(number) for number in range(3)] == [number != chunk for number in range(3)]
        with pytest.raises(RecordError, match=rf"{path.name}: broken"):
            records.read(3)
        path.write_bytes(good[str(path.relative_to(copied))])
    assert found == FLIPS and len(files_hit) == 4
    assert records.read(3) == done[1]


@pytest.mark.parametrize("name", ["run.json", "records/chunk-000001.jsonl"])
@pytest.mark.parametrize("damage", ["empty", "a line", "cut", "longer", "flipped", "a pipe", "old"])
def test_what_is_damaged_is_told_and_measured_again(
    damage: str, name: str, copied: Path, done: tuple[Path, list[Record]], loaded: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    path = copied / name
    content = path.read_bytes()
    middle = len(content) // 2
    path.unlink()
    if damage == "a pipe":
        os.mkfifo(path)
    else:
        lines = content.splitlines(keepends=True)
        damaged = {
            "empty": b"",
            "a line": b"".join(lines[:-1]),
            "cut": content[:middle],
            "longer": content + b"\n",
            "flipped": content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :],
            "old": b'{"id": "evaluation-0-000004", "method": "RandomMap", "values": {"PG": 1.0}}\n',
        }
        path.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING):
        assert measure(loaded, copied) == done[1]
    assert files(copied) == files(done[0])
    assert f"{path} is damaged" in caplog.text


def test_a_chunk_in_the_place_of_another_is_not_taken_for_it(
    copied: Path, done: tuple[Path, list[Record]], loaded: Loaded
) -> None:
    shutil.copy(copied / "records" / "chunk-000000.jsonl", copied / "records" / "chunk-000001.jsonl")
    assert measure(loaded, copied) == done[1]
    assert files(copied) == files(done[0])


def test_a_checksum_does_not_make_sense_of_nonsense(tmp_path: Path) -> None:
    """Whoever writes a file can write its checksum as well."""
    from captum_gradeclip.experiments.records import _seal

    kept = Records(tmp_path, {"task": "a"})
    for nonsense in (b"", b"[]\n", b"{}\n", b"null\n", b'{"chunk": 0, "samples": [3], "settings": {}}\n', b"[" * 100_000):
        kept.path(0).write_bytes(_seal(nonsense).encode() + nonsense)
        assert not kept.has(0)
    kept.path(0).unlink()
    kept.path(0).mkdir()
    assert not kept.has(0)


def test_what_a_killed_run_left_half_written_goes(copied: Path, done: tuple[Path, list[Record]], loaded: Loaded) -> None:
    (copied / "records" / ".chunk-000001.jsonl.17.part").write_text("half")
    (copied / ".run.json.17.part").write_text("half")
    (copied / ".lock").touch()  # nobody holds it
    assert measure(loaded, copied) == done[1]
    assert files(copied) == files(done[0])


def test_records_are_strict_json_and_keep_what_is_not_finite(tmp_path: Path) -> None:
    kept = Records(tmp_path, {"task": "a"})
    record: Record = {"id": "NaN", "method": "Infinity", "values": {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1}}
    kept.write(0, [record])

    def refuse(name: str) -> None:
        raise AssertionError(name)

    for line in kept.path(0).read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    (back,) = kept.read(1)
    assert (back["id"], back["method"], math.isnan(back["values"].pop("a"))) == ("NaN", "Infinity", True)
    assert back["values"] == {"b": math.inf, "c": -math.inf, "d": 0.1}


def test_checksums_see_every_byte(loaded: Loaded) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2, 3, dtype=torch.bfloat16))
            self.register_buffer("mask", torch.zeros(2), persistent=False)
            self.register_buffer("count", torch.tensor(0))
            self.register_buffer("none", torch.zeros(0))

    model = Small()
    sums = {identity.weights_checksum(model)}
    model.mask[1] = 1
    sums.add(identity.weights_checksum(model))
    model.count += 1
    sums.add(identity.weights_checksum(model))
    with torch.no_grad():
        model.weight[1, 2] = 1
    sums.add(identity.weights_checksum(model))
    model.weight = nn.Parameter(model.weight.detach().reshape(3, 2))
    sums.add(identity.weights_checksum(model))
    assert len(sums) == 5 and identity.weights_checksum(deepcopy(model)) in sums
    with torch.no_grad():
        transposed = nn.Linear(2, 2)
        plain = identity.weights_checksum(transposed)
        transposed.weight.data = transposed.weight.t().contiguous().t()  # other strides, the same values
    assert identity.weights_checksum(transposed) == plain
    sample = Scenes(1)[0]
    assert checksum(sample) == checksum(Scenes(1)[0]) != checksum(replace(sample, segments=None))


def test_two_runs_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["benchmark", "localization", "--samples", "2", "--methods", "random", "--out", str(tmp_path)]
    folder = tmp_path / "localization-scenes"
    folder.mkdir()
    # A process that holds the folder, and is killed.
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        Lock(folder).take()
        os.write(told, b"x")
        signal.pause()
    assert os.read(ready, 1) == b"x"
    try:
        assert cli.main(command) == 2
        said = capsys.readouterr().err
        assert said == (
            f"gradeclip: --out: another run is at work in '{folder}'; wait for its end, or choose another folder\n"
        )
        assert not (folder / "run.json").exists()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready), os.close(told)
    assert cli.main(command) == 0 and not (folder / ".lock").exists()


def test_of_many_that_begin_at_once_one_runs_at_a_time(tmp_path: Path) -> None:
    """The file of the lock goes with each holder, so that others may just have opened it."""
    inside, most, entered = [0], [0], [0]
    counting = threading.Lock()

    def work() -> None:
        for _ in range(150):
            with Lock(tmp_path) as lock:
                try:
                    lock.take()
                except LockedError:
                    continue
                with counting:
                    inside[0] += 1
                    entered[0] += 1
                    most[0] = max(most[0], inside[0])
                with counting:
                    inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert most == [1] and entered[0] > 8 and not list(tmp_path.iterdir())


def test_the_processes_of_a_run_share_its_folder(tmp_path: Path) -> None:
    with Lock(tmp_path) as first, Lock(tmp_path) as second, Lock(tmp_path) as stranger:
        first.take()
        with pytest.raises(LockedError):
            second.share()
        first.share()
        second.share()
        first.__exit__(None, None, None)
        with pytest.raises(LockedError):
            stranger.take()  # one of them is still at work
        second.__exit__(None, None, None)
        stranger.take()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("twice", ["random,random", "random,RandomMap,random map", "all,random"])
def test_a_method_that_is_named_twice_counts_once(twice: str, tmp_path: Path, loaded: Loaded) -> None:
    names = [one.strip() for one in twice.split(",")]
    task = tasks.Localization(loaded, Scenes(4), Settings(methods=names))
    ids = [one.id for one in task.choose_explainers()]
    assert len(ids) == len(set(ids)) and ids.count("RandomMap") == 1
    if "all" not in names:
        found = measure(loaded, tmp_path, Scenes(4), Settings(methods=names))
        assert found == measure(loaded, tmp_path, Scenes(4), Settings(methods=["random"])) and len(found) == 4


@pytest.mark.parametrize(
    ("task", "arguments", "said"),
    [
        ("localization", ["--batch-size", "0"], "--batch-size: expected at least 1, got 0"),
        ("faithfulness", ["--batch-size", "-3"], "--batch-size: expected at least 1, got -3"),
        ("localization", ["--samples", "-1"], "--samples: expected at least 1, got -1"),
        ("localization", ["--samples", "9" * 30], "--samples: expected at most 100000000, got more"),
        ("words", ["--seed", "-1"], "--seed: expected at least 0, got -1"),
        ("localization", ["--mask-offset", "-1"], "--mask-offset: expected at least 0, got -1"),
        ("axioms", ["--rise-masks", "0"], "--rise-masks: expected at least 1, got 0"),
        ("localization", ["--methods", "nothing"], "--methods: there is no 'nothing'; known are"),
        ("localization", ["--methods", "random,"], "--methods: there is no ''; known are"),
        ("words", ["--methods", "oracle"], "--methods: none of ['oracle'] explains texts"),
        ("localization", ["--device", "meta"], "--device: torch cannot use 'meta' here"),
        ("time", ["--device", "meta"], "--device: torch cannot use 'meta' here"),
        ("time", ["--batch", "4", "0"], "--batch: expected at least 1, got 0"),
        ("time", ["--batch", "9" * 30], "--batch: expected at most 77672 images of 96 x 96, got more"),
        ("time", ["--rounds", "-1"], "--rounds: expected at least 1, got -1"),
        ("localization", ["--out", "x" * 300], "--out: cannot write into 'xxx"),
        ("localization", ["--out", "z" * 5000], "--out: cannot write into 'zzz"),
        ("scenes", ["--out", "o/" * 2000], "--out: cannot write into 'o/o/"),
        ("scenes", ["--scenes", "0"], "--scenes: expected at least 1, got 0"),
    ],
)
def test_names_and_numbers_are_one_line(
    task: str,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["benchmark", task, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gradeclip: {said}") and error.count("\n") == 1 and len(error) < 400
