"""Fine-tuning: one step written out, resumed runs, and what is left out of a run."""

from __future__ import annotations

import copy
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import captum_gradeclip
from captum_gradeclip import GradECLIP, ImageTextScore, scenes
from captum_gradeclip.attr import dense_features
from captum_gradeclip.scenes.model import build
from captum_gradeclip.tuning import (
    GlobalContrastiveLoss,
    Pair,
    RegionPhraseLoss,
    ScenePairs,
    TuneSettings,
    TuningError,
    noun_phrases,
    region_embeddings,
    tune,
)
from captum_gradeclip.tuning.batches import Order

from ..conftest import fingerprint, relative, stir


class _Drawn:
    """Scenes that are drawn once."""

    about = ScenePairs(24).about

    def __init__(self) -> None:
        self.pairs = [ScenePairs(24)[index] for index in range(24)]

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Pair:
        return self.pairs[index]


PAIRS = _Drawn()
Small = dict[str, Any]
SMALL: Small = {"batch": 8, "steps": 6, "lr": 1e-4}


@pytest.fixture(scope="module")
def clip() -> Any:
    """A CLIP of the embedded model's kind, small enough for many steps, on small pictures."""
    torch.manual_seed(0)
    model = build(image_size=32, layers=2, width=48, heads=2, text_width=32)
    return stir(model, amount=0.05), scenes.preprocess(32), scenes.tokenizer()


def run(
    given: Any,
    pairs: Any = PAIRS,
    out: Path | None = None,
    prepare: Any = None,
    inplace: bool = False,
    device: str | None = "cpu",
    **settings: Any,
) -> Any:
    model, preprocess, tokenizer = given
    more = {"device": device, "quiet": True, "inplace": inplace, "out": out, "log_every": 1, "save_every": 2}
    chosen = TuneSettings(**{**SMALL, **settings})
    return tune(model, pairs, tokenizer, chosen, preprocess=prepare or preprocess, **more)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in model.state_dict().values()])


def test_one_step_is_the_paper_written_out(clip: Any) -> None:
    model, preprocess, tokenizer = clip
    settings: Small = {"steps": 1, "warmup": 0, "clip": None, "weight_decay": 0.3}
    given = copy.deepcopy(model)
    caught = {name: _Gradients(parameter) for name, parameter in given.named_parameters()}
    tuned = run((given, *clip[1:]), **settings, inplace=True)

    own = copy.deepcopy(model)
    order = Order(len(PAIRS), 0)
    chosen = [PAIRS[order[position].index] for position in range(8)]
    images = torch.stack([preprocess(pair.image) for pair in chosen])
    image = F.normalize(own.encode_image(images), dim=-1)
    text = F.normalize(own.encode_text(tokenizer([pair.caption for pair in chosen])), dim=-1)
    scale = own.logit_scale.exp()
    loss = GlobalContrastiveLoss()(image, text, scale)
    regions, phrases, words = [], [], []
    dense = dense_features(own, images)
    for number, pair in enumerate(chosen):
        for phrase in noun_phrases(pair.caption):
            feature = F.normalize(own.encode_text(tokenizer([phrase])), dim=-1)
            score = ImageTextScore(own, feature.detach())
            found = GradECLIP(score, score.layers[-1]).attribute(images[number : number + 1])
            region, marked = region_embeddings(found, dense[number : number + 1])
            if marked.any():
                regions.append(region[0])
                phrases.append(feature)
                words.append(phrase)
    labels = torch.tensor([words.index(word) for word in words])
    assert len(set(words)) < len(words)  # a phrase that is there twice
    local = RegionPhraseLoss()(torch.cat(regions), torch.cat(phrases), scale, labels)
    (loss + local).backward()
    groups = [
        {"params": [p for p in own.parameters() if p.dim() > 1], "weight_decay": 0.3},
        {"params": [p for p in own.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    for name, parameter in own.named_parameters():
        assert parameter.grad is not None and relative(caught[name].found[-1], parameter.grad) < 1e-3, name
    torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.999)).step()

    row = tuned.log[0]
    assert row["global"] == pytest.approx(loss.item(), rel=1e-4) and row["local"] == pytest.approx(local.item(), rel=1e-3)
    assert row["regions"] == len(words) and row["phrases"] >= len(words) and row["pairs"] == 8
    before, after, expected = weights(model), weights(tuned.model), weights(own)
    # AdamW's first step is the sign of the gradient: where that is nearly 0, rounding may turn it.
    same = (after - expected).abs() < 1e-5
    assert (after != before).float().mean() > 0.9 and same.float().mean() > 0.99


def test_the_loss_falls_and_the_model_that_was_given_stays(clip: Any) -> None:
    before = fingerprint(clip[0])
    tuned = run(clip, steps=30, lr=3e-4)
    assert fingerprint(clip[0]) == before
    first, last = ([row["loss"] for row in part] for part in (tuned.log[:5], tuned.log[-5:]))
    assert sum(last) < 0.8 * sum(first) and not tuned.model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in tuned.model.parameters())


def test_the_model_itself_is_changed_where_that_is_asked_for(clip: Any) -> None:
    model, preprocess, tokenizer = clip
    own = copy.deepcopy(model).train()
    own.logit_scale.requires_grad_(False)
    tuned = tune(own, PAIRS, tokenizer, TuneSettings(**SMALL), preprocess=preprocess, inplace=True, device="cpu", quiet=True)
    assert tuned.model is own and own.training and not torch.equal(weights(own), weights(model))
    assert not own.logit_scale.requires_grad and own.visual.proj.requires_grad


@pytest.mark.parametrize("local", ["TokenGradCam", "MaskCLIP", "CLIPSelf", "none"])
def test_each_local_loss_trains(clip: Any, local: str) -> None:
    tuned = run(clip, local=local, steps=3)
    rows = tuned.log
    assert all(row["loss"] > 0 for row in rows) and (rows[-1]["local"] > 0) == (local != "none")
    assert not torch.equal(weights(tuned.model), weights(clip[0]))


def test_a_frozen_text_tower_stays(clip: Any) -> None:
    tuned = run(clip, text="frozen")
    before, after = (dict(model.named_parameters()) for model in (clip[0], tuned.model))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("visual.") or name == "logit_scale" for name in changed)


def test_the_rival_alone_reads_no_text(clip: Any) -> None:
    model, preprocess, _ = clip
    settings = TuneSettings(**SMALL, local="CLIPSelf", global_weight=0.0)
    tuned = tune(model, PAIRS, None, settings, preprocess=preprocess, device="cpu", quiet=True)
    before, after = (dict(one.named_parameters()) for one in (model, tuned.model))
    assert {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])} == {"visual"}


def test_accumulation_averages_the_gradients_of_its_parts(clip: Any) -> None:
    """With plain averages of micro-batches, one step of two parts is the mean of the gradients of each alone."""
    grads = []
    for part in (None, 0, 1):
        model, preprocess, tokenizer = copy.deepcopy(clip[0]), *clip[1:]
        order = Order(len(PAIRS), 0)
        numbers = [order[position].index for position in range(8)]
        chosen = numbers if part is None else numbers[4 * part : 4 * part + 4]
        settings = TuneSettings(steps=1, batch=len(chosen), accumulation=2 if part is None else 1, lr=1e-4, warmup=0)
        caught = _Gradients(model.visual.proj)
        pairs = _Fixed([PAIRS[number] for number in chosen], settings.seed)
        tune(model, pairs, tokenizer, settings, preprocess=preprocess, inplace=True, device="cpu", quiet=True)
        grads.append(torch.stack(caught.found[1:]).sum(dim=0))
    assert torch.allclose(grads[0], (grads[1] + grads[2]) / 2, rtol=1e-3, atol=1e-6)


class _Gradients:
    """The gradients of a parameter, one for each backward pass; the first asks which parameters are reached."""

    def __init__(self, parameter: Tensor) -> None:
        self.found: list[Tensor] = []
        parameter.register_hook(lambda gradient: self.found.append(gradient.clone()))


class _Fixed:
    """Pairs that come in the order in which they were given, at any seed of the order."""

    def __init__(self, pairs: list[Pair], seed: int) -> None:
        order = Order(len(pairs), seed)
        self.pairs = {order[place].index: pair for place, pair in enumerate(pairs)}
        self.about: Mapping[str, object] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        return self.pairs[index]


class Stop(Exception):
    pass


def stopping(preprocess: Any, at: int) -> Any:
    """A transform that draws random numbers, and ends the run at a picture."""
    count = iter(range(10**6))

    def prepare(image: Image.Image) -> Tensor:
        if next(count) == at:
            raise Stop
        pixels: Tensor = preprocess(image)
        return pixels + 0.05 * torch.randn(pixels.shape)

    return prepare


@pytest.mark.parametrize("at", [3, 29, 41])
def test_a_run_that_was_stopped_comes_to_the_same_weights(clip: Any, tmp_path: Path, at: int) -> None:
    whole = run(clip, out=tmp_path / "whole", prepare=stopping(clip[1], -1))
    with pytest.raises(Stop):
        run(clip, out=tmp_path / "stopped", prepare=stopping(clip[1], at))
    resumed = run(clip, out=tmp_path / "stopped", prepare=stopping(clip[1], -1))
    assert torch.equal(weights(resumed.model), weights(whole.model))
    for row, other in zip(resumed.log, whole.log, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    assert (tmp_path / "whole" / "tuned.safetensors").read_bytes() == resumed.weights.read_bytes()
    again = run(clip, out=tmp_path / "stopped", prepare=stopping(clip[1], 0))  # nothing is left to do
    assert torch.equal(weights(again.model), weights(whole.model))


def test_each_run_has_the_device_that_it_was_given(clip: Any) -> None:
    from accelerate.state import PartialState

    for device in ("cpu", None, "cpu"):
        run(clip, steps=1, device=device)
        assert PartialState()._cpu == (device == "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
@pytest.mark.parametrize("local", ["GradECLIP", "TokenGradCam", "MaskCLIP"])
def test_a_run_on_a_gpu_that_was_stopped_comes_to_the_same_weights(
    clip: Any, tmp_path: Path, precision: str, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    given: Small = {"device": None, "precision": precision, "local": local}
    on_cpu = run(clip, steps=1, local=local, prepare=stopping(clip[1], -1)).log[0]
    torch.use_deterministic_algorithms(True)  # sums over threads of a GPU have no order of their own
    try:
        whole = run(clip, out=tmp_path / "whole", prepare=stopping(clip[1], -1), **given)
        with pytest.raises(Stop):
            run(clip, out=tmp_path / "stopped", prepare=stopping(clip[1], 29), **given)
        resumed = run(clip, out=tmp_path / "stopped", prepare=stopping(clip[1], -1), **given)
    finally:
        torch.use_deterministic_algorithms(False)
    assert {parameter.device.type for parameter in whole.model.parameters()} == {"cuda"}
    assert torch.equal(weights(resumed.model), weights(whole.model))
    if precision != "fp16":  # whose first steps may be skipped, until its scale fits
        assert whole.log[0]["loss"] == pytest.approx(on_cpu["loss"], rel=0.01 if precision == "no" else 0.05)


def test_the_folder_of_another_run_is_not_gone_on_with(clip: Any, tmp_path: Path) -> None:
    run(clip, out=tmp_path)
    with pytest.raises(TuningError, match=r"out: .*\(lr: 0\.0001 there, 0\.0003 here\)"):
        run(clip, out=tmp_path, lr=3e-4)
    with pytest.raises(TuningError, match="length: 24 there, 25 here"):
        run(clip, ScenePairs(25), out=tmp_path)


class _Faulty:
    """Scenes, of which some cannot be read, or have captions without a phrase or without a word."""

    about: Mapping[str, object] = {}

    def __init__(self, broken: int = 3, bare: bool = False) -> None:
        self.broken, self.bare = broken, bare

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Pair:
        if index < self.broken:
            raise OSError("it is cut off")
        pair = PAIRS[index]
        return pair._replace(caption=" ") if index == 23 else pair._replace(caption="at the left") if self.bare else pair


def test_what_cannot_be_read_makes_batches_smaller(clip: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "captum_gradeclip"):
        tuned = run(clip, _Faulty(), steps=3)
    assert sum(row["pairs"] for row in tuned.log) == 20 and sum(row["broken"] for row in tuned.log) == 4
    assert set(tuned.broken) == {0, 1, 2, 23} and tuned.broken[0] == "it is cut off" and "empty" in tuned.broken[23]
    assert "pair 0 is left out: it is cut off" in caplog.text and all(row["loss"] > 0 for row in tuned.log)


def test_captions_without_phrases_have_the_global_loss_alone(clip: Any) -> None:
    tuned = run(clip, _Faulty(bare=True), steps=3)
    assert all(row["phrases"] == row["regions"] == row["local"] == 0 < row["global"] for row in tuned.log)
    assert not torch.equal(weights(tuned.model), weights(clip[0]))


def test_a_step_without_pairs_changes_nothing_and_many_end_the_run(clip: Any) -> None:
    with pytest.raises(TuningError, match="settings: 4 steps in a row changed nothing, the last one since a process has"):
        run(clip, _Faulty(broken=24), patience=4)


def test_a_loss_that_is_no_number_changes_nothing(clip: Any) -> None:
    count = iter(range(10**6))

    def prepare(image: Image.Image) -> Tensor:
        pixels: Tensor = clip[1](image)
        return pixels * torch.nan if next(count) == 10 else pixels  # in the second step

    def healthy(image: Image.Image) -> Tensor:
        pixels: Tensor = clip[1](image)
        return pixels

    for local in ("GradECLIP", "CLIPSelf", "none"):
        count = iter(range(10**6))
        tuned = run(clip, prepare=prepare, steps=2, local=local)
        assert [row["skipped"] for row in tuned.log] == [0, 1] and torch.isfinite(weights(tuned.model)).all()
        one = run(clip, prepare=healthy, steps=2, local=local)
        assert tuned.log[0]["loss"] == one.log[0]["loss"] and one.log[1]["skipped"] == 0
        assert not torch.equal(weights(tuned.model), weights(one.model))


def test_the_weights_are_a_checkpoint_of_open_clip(clip: Any, tmp_path: Path) -> None:
    import open_clip

    name = f"tiny-{os.getpid()}"
    vision = {"image_size": 32, "patch_size": 8, "layers": 2, "width": 48, "head_width": 12}
    text = {"context_length": 24, "vocab_size": clip[2].vocab_size, "layers": 2, "width": 32, "heads": 4}
    (tmp_path / f"{name}.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    model = open_clip.create_model(name)
    tuned = run((model, None, clip[2]), out=tmp_path / "run", steps=2)
    again = open_clip.create_model(name, pretrained=str(tuned.weights))
    assert torch.equal(weights(again), weights(tuned.model)) and not torch.equal(weights(again), weights(model))


def test_half_precision_keeps_whole_weights_and_single_precision_comes_back(clip: Any) -> None:
    half, single = (run(clip, precision=precision, steps=2) for precision in ("bf16", "no"))
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    losses = [one.log[0]["loss"] for one in (half, single)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)
    assert run(clip, steps=2).log[0]["loss"] == losses[1]


def test_workers_read_what_the_process_itself_would_read(clip: Any) -> None:
    model, preprocess, tokenizer = clip
    more = {"preprocess": stopping(preprocess, -1), "device": "cpu", "quiet": True}
    runs = [tune(model, PAIRS, tokenizer, TuneSettings(**SMALL), workers=workers, **more) for workers in (0, 2)]
    assert torch.equal(weights(runs[0].model), weights(runs[1].model))


def test_the_log_is_a_table(clip: Any, tmp_path: Path) -> None:
    tuned = run(clip, out=tmp_path, steps=3)
    head, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert head.split(",") == list(tuned.log[0]) and [row.split(",")[0] for row in rows] == ["1", "2", "3"]
    about = json.loads((tmp_path / "tuning.json").read_text())
    assert about["settings"]["steps"] == 3 and about["pairs"]["data"] == "scenes"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 25}, "batch: expected at most 24"),
        ({"accumulation": 3}, "accumulation: expected a divisor of the batch of 8"),
        ({"local": "GAME"}, "local: expected one of"),
        ({"local": "none", "global_weight": 0}, "nothing to learn"),
    ],
)
def test_settings_that_do_not_fit_are_refused(clip: Any, settings: Small, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(clip, **settings)


def test_captions_need_a_tokenizer(clip: Any) -> None:
    with pytest.raises(TypeError, match="tokenizer: needed"):
        tune(clip[0], PAIRS, None, TuneSettings(**SMALL))


SCRIPT = """
import os, sys, torch
torch.set_num_threads(1)
from captum_gradeclip import scenes
from captum_gradeclip.tuning import ScenePairs, TuneSettings, tune
model, preprocess, tokenizer = scenes.load()
out, local, weight, text = sys.argv[1:5]
class Pairs(ScenePairs):
    def __getitem__(self, index):  # with a frozen text tower, many processes have no phrase at all in a micro-batch
        pair = super().__getitem__(index)
        return pair if text == "trained" or index % 3 == 0 else pair._replace(caption="at the left")
settings = TuneSettings(steps=8, batch=8, accumulation=2, lr=1e-4, local=local, global_weight=float(weight), text=text)
more = {"preprocess": preprocess, "out": out, "device": "cpu", "log_every": 1, "save_every": 2}
tuned = tune(model, Pairs(24), tokenizer, settings, **more)
if torch.distributed.is_initialized():
    assert torch.distributed.get_world_size() == 2
    open(f"{out}-{torch.distributed.get_rank()}", "x").close()
"""


def environment() -> dict[str, str]:
    own = str(Path(captum_gradeclip.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": own, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("local", "weight", "text"),
    [("GradECLIP", "1", "trained"), ("GradECLIP", "1", "frozen"), ("CLIPSelf", "0", "trained")],
)
def test_two_processes_with_half_the_batch_each_are_one(tmp_path: Path, local: str, weight: str, text: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    one = [sys.executable, "script.py", "one", local, weight, text]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = [*launch, "script.py", "two", local, weight, text]
    for command in (one, two):
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "two-0").exists() and (tmp_path / "two-1").exists()
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("one", "two")]
    names = logs[0][0].split(",")
    curves = [[dict(zip(names, map(float, row.split(",")))) for row in log[1:]] for log in logs]
    assert len(curves[0]) == 8
    for row, other in zip(*curves):
        for name in ("loss", "global", "local", "norm", "scale"):
            assert row[name] == pytest.approx(other[name], rel=2e-3, abs=1e-6), (row["step"], name)
        assert (row["pairs"], row["phrases"], row["regions"]) == (other["pairs"], other["phrases"], other["regions"])


@pytest.mark.slow
def test_a_run_that_was_killed_comes_to_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    subprocess.run(
        [*command, "whole", "GradECLIP", "1", "trained"], cwd=tmp_path, env=environment(), check=True, timeout=300
    )
    killed = subprocess.Popen([*command, "killed", "GradECLIP", "1", "trained"], cwd=tmp_path, env=environment())
    until = time.monotonic() + 120
    while not (tmp_path / "killed" / "checkpoint.pt").exists() and time.monotonic() < until:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "tuned.safetensors").exists()
    subprocess.run(
        [*command, "killed", "GradECLIP", "1", "trained"], cwd=tmp_path, env=environment(), check=True, timeout=300
    )
    assert (tmp_path / "killed" / "tuned.safetensors").read_bytes() == (
        tmp_path / "whole" / "tuned.safetensors"
    ).read_bytes()
