"""Fine-tuning: pairs of pictures and captions, and maps of the captions' phrases, change a model."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from .. import adapters
from ..adapters.tokenizers import Tokenizer
from ..progress import track
from ..quoting import line
from .batches import Broken, Prepared, collate, micro_batches
from .checkpoint import WEIGHTS, RunFolder, TuningError, save_weights
from .objective import Objective
from .pairs import Pairs
from .phrases import Tagger, TaggerName
from .settings import TuneSettings

logger = logging.getLogger(__name__)
_BETAS = (0.9, 0.999)
_LARGEST_SCALE = math.log(100)


@dataclass(frozen=True)
class Tuned:
    """What came out of a fine-tuning.

    Attributes:
        model: the tuned model, in evaluation mode.
        log: a row for every few steps: ``step`` (how many are done), the means ``loss``, ``global``, ``local`` and ``norm``
            of the gradient, ``rate`` and ``scale`` (the factor on the cosines), and the sums ``pairs``, ``broken``,
            ``phrases``, ``regions``, ``skipped`` steps and ``seconds``.
        broken: why pairs could not be read, by their numbers.
        weights: the file of the weights, or ``None`` if no folder was given.

    >>> tuned = Tuned(nn.Linear(2, 2), [{"step": 10, "loss": 1.5}], broken={3: "cut off"})
    >>> tuned.log[-1]["loss"], tuned.broken, tuned.weights
    (1.5, {3: 'cut off'}, None)
    """

    model: nn.Module
    log: Sequence[Mapping[str, float]]
    broken: Mapping[int, str]
    weights: Path | None = None


@dataclass
class _Sums:
    """Sums over the steps since the last row of the log."""

    values: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    began: float = field(default_factory=time.monotonic)


def tune(
    model: nn.Module,
    pairs: Pairs,
    tokenizer: Tokenizer | None,
    settings: TuneSettings | None = None,
    *,
    preprocess: Callable[[Image.Image], Tensor] | None = None,
    out: str | Path | None = None,
    inplace: bool = False,
    device: str | None = None,
    tagger: TaggerName | Tagger = "textblob",
    workers: int = 0,
    log_every: int = 10,
    save_every: int = 500,
    trackers: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Tuned:
    r"""Fine-tunes a model with the regions that maps find for the phrases of captions.

    .. math:: L = w_g L_{global} + w_l L_{local}

    with the contrastive loss of pictures and captions (:class:`GlobalContrastiveLoss`), and a loss of regions and phrases
    (:class:`RegionPhraseLoss`): for each phrase of a caption, the map of the model as it is then marks a region of the
    picture, whose dense features are to match the phrase.

    With a folder ``out``, the run goes on from the checkpoint there, to the very weights of a run that was not interrupted.
    It runs on all processes that ``torchrun`` starts, which share each batch; features are compared over all of them, so
    that the result is that of one process, up to rounding.

    What cannot be used is left out and counted, never replaced: a picture that cannot be read, or an empty caption, makes
    the batch smaller; a caption without phrases takes part in the contrastive loss only; a map of zeros marks no region. A
    step whose loss or gradient is not finite changes nothing, and neither does one for which a process has fewer than two
    pairs in a micro-batch.

    Args:
        model: a model of images and texts whose image tower reads its class token.
        pairs: the pictures with their captions, at least as many as a batch.
        tokenizer: the model's own tokenizer. Captions that are too long are cut by it.
        settings: all that decides the result (default those of :class:`TuneSettings`).
        preprocess: makes a picture a tensor ``(C, H, W)``; it may draw random numbers of torch. ``None`` (default) for the
            preprocessing of the model's own library.
        out: folder of checkpoints, log and weights (default: nothing is written).
        inplace: whether the model that is given is changed itself; if not (default), a copy of it is.
        device: ``"cpu"``, or ``None`` (default) for what accelerate finds.
        tagger: what tags the words of captions, see :func:`noun_phrases`.
        workers: number of processes that read pictures, for each process that trains, 0 or more (default 0).
        log_every: number of steps that a row of the log stands for, at least 1 (default 10).
        save_every: number of steps between two checkpoints, at least 1 (default 500).
        trackers: trackers of accelerate that get the log as well, ``"tensorboard"`` for instance.
        metadata: what the file of the weights says of itself.
        quiet: whether no progress is shown (default False).

    Returns:
        The tuned model with the log of the run.

    Raises:
        NotDefinedError: for a model whose image tower reads anything but its class token.
        TuningError: if ``out`` holds another run, or too many steps in a row had no finite loss.
        TypeError: without a tokenizer, if texts are needed.
        ValueError: for fewer pairs than a batch, or a batch that the processes cannot share.

    >>> from captum_gradeclip import scenes
    >>> from captum_gradeclip.tuning import ScenePairs
    >>> model, preprocess, tokenizer = scenes.load()
    >>> settings = TuneSettings(steps=2, batch=4)
    >>> tuned = tune(model, ScenePairs(8), tokenizer, settings, preprocess=preprocess, device="cpu", quiet=True)
    >>> sorted(tuned.log[0])[:3], tuned.model is model
    (['broken', 'global', 'local'], False)

    Source: Zhao et al., arXiv 2502.18816v1, section 6.
    """
    chosen = TuneSettings() if settings is None else settings
    if tokenizer is None and chosen.needs_text:
        raise TypeError("tokenizer: needed to turn captions into token ids; pass the model's own")
    if len(pairs) < chosen.batch:
        raise ValueError(f"batch: expected at most {len(pairs)}, the number of pairs, got {chosen.batch}")
    accelerator = _accelerator(chosen, device, trackers, out)
    if chosen.batch % (chosen.accumulation * accelerator.num_processes):
        raise ValueError(
            f"batch: expected a multiple of {chosen.accumulation * accelerator.num_processes}, micro-batches times"
            f" processes, got {chosen.batch}"
        )
    own = model if inplace else copy.deepcopy(model)
    modes, flags = own.training, [parameter.requires_grad for parameter in own.parameters()]
    prepare = adapters.preprocessing(own).transform if preprocess is None else preprocess
    run = _Run(own, pairs, tokenizer, chosen, accelerator, None if out is None else Path(out), metadata)
    try:
        run.go(prepare, tagger, workers, log_every, save_every, quiet)
    finally:
        for parameter, flag in zip(own.parameters(), flags):
            parameter.requires_grad_(flag)
            parameter.grad = None
        own.train(modes and inplace)
        if trackers:
            accelerator.end_training()
    return Tuned(own, run.rows, run.broken, None if out is None else Path(out) / WEIGHTS)


class _Run:
    """One run, from its first or from its last checkpoint on; arguments as for :func:`tune`."""

    def __init__(
        self,
        model: nn.Module,
        pairs: Pairs,
        tokenizer: Tokenizer | None,
        settings: TuneSettings,
        accelerator: Any,
        out: Path | None,
        metadata: Mapping[str, str] | None,
    ) -> None:
        self.model, self.pairs, self.tokenizer, self.settings = model, pairs, tokenizer, settings
        self.accelerator, self.metadata = accelerator, metadata
        start = {"pairs": pairs.about, "settings": asdict(settings), "model": _fingerprint(model)}
        self.folder = None if out is None else RunFolder(out, start)
        model.float().to(accelerator.device).requires_grad_(True)
        self.objective = Objective(model, settings)
        trained = self.objective.trained()
        for name, parameter in self.objective.named_parameters():
            parameter.requires_grad_(name in trained)
        self.parameters = list(trained.values())
        matrices = [one for one in self.parameters if one.dim() > 1]
        others = [one for one in self.parameters if one.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.lr, betas=_BETAS)
        self.step, self.in_a_row = 0, 0
        self.rows: list[dict[str, float]] = []
        self.broken: dict[int, str] = {}
        state = None if self.folder is None else self.folder.load(accelerator.device)
        if state is not None:
            self.objective.load_state_dict(state["objective"])  # type: ignore[arg-type]  # as _save has it
            optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
            self.step, self.rows, self.broken = state["step"], state["rows"], state["broken"]  # type: ignore[assignment]
            self.in_a_row = state["in_a_row"]  # type: ignore[assignment]
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(state["scaler"])
        self.wrapped, self.optimizer = accelerator.prepare(self.objective, optimizer)

    def go(
        self,
        preprocess: Callable[[Image.Image], Tensor],
        tagger: TaggerName | Tagger,
        workers: int,
        log_every: int,
        save_every: int,
        quiet: bool,
    ) -> None:
        """Trains up to the last step."""
        settings, accelerator = self.settings, self.accelerator
        micro = micro_batches(
            self.pairs,
            preprocess,
            settings,
            tagger,
            first=self.step,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
            workers=workers,
        )
        sums = _Sums()
        left = range(self.step, settings.steps)
        hidden = quiet or not accelerator.is_main_process
        for _ in track(left, "fine-tuning", done=self.step, disable=hidden, transient=False):
            sums.values.update(self._one_step(micro))
            sums.steps += 1
            self.step += 1
            last = self.step == settings.steps
            # A checkpoint lies between two rows of the log, or rows of a run that was resumed would be others.
            saves = self.step % save_every == 0 or last
            if self.step % log_every == 0 or saves:
                self._note(sums)
                sums = _Sums()
            if saves:
                self._save()
        if self.folder is not None and accelerator.is_main_process:
            save_weights(self.model, self.folder.folder / WEIGHTS, self.metadata)
        accelerator.wait_for_everyone()

    def _one_step(self, micro: Iterator[list[Prepared | Broken]]) -> dict[str, float]:
        """One step; returns sums for the log."""
        settings, accelerator = self.settings, self.accelerator
        parts = [next(micro) for _ in range(settings.accumulation)]
        items = [[one for one in part if isinstance(one, Prepared)] for part in parts]
        for one in (one for part in parts for one in part):
            if isinstance(one, Broken) and one.index not in self.broken:
                self.broken[one.index] = one.reason
                logger.warning("pair %d is left out: %s", one.index, line(one.reason))
        told = Counter({"pairs": sum(map(len, items)), "broken": sum(map(len, parts)) - sum(map(len, items))})
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(self.step)
        fewest = torch.tensor(float(min(map(len, items))), device=accelerator.device)
        if float(accelerator.gather(fewest).min()) < 2:
            return self._skipped(told, "a process has fewer than two pairs that can be read in a micro-batch")
        total = torch.zeros(3, device=accelerator.device)
        for number, some in enumerate(items):
            batch = collate(some, self.tokenizer, self.objective.tower).to(accelerator.device)
            last = number == len(items) - 1
            with nullcontext() if last else accelerator.no_sync(self.wrapped):
                losses = self.wrapped(batch)
                accelerator.backward(losses["loss"] / len(items))
            total += torch.stack([losses[name].detach().float() for name in ("loss", "global", "local")]) / len(items)
            told.update({name: int(losses[name]) for name in ("regions", "phrases")})
        limit = math.inf if settings.clip is None else settings.clip
        norm = accelerator.clip_grad_norm_(self.parameters, limit)
        # Each process has its own rounding; all of them have to decide alike.
        finite = accelerator.gather(torch.stack([total.sum(), norm.float()]).isfinite().all().float()).min()
        scaled = accelerator.scaler is not None  # which finds a gradient that has left half precision, and goes on with less
        if not float(finite) and not (scaled and bool(total.isfinite().all())):
            self.optimizer.zero_grad()
            return self._skipped(told, f"its loss is {float(total[0]):g} and the norm of its gradient {float(norm):g}")
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.optimizer.step_was_skipped:
            return self._skipped(told, "its gradient left the range of half precision")
        if self.objective.scale.requires_grad:
            with torch.no_grad():
                self.objective.scale.clamp_(0, _LARGEST_SCALE)
        self.in_a_row = 0
        names = dict(zip(("loss", "global", "local"), total.tolist()))
        return {**told, **names, "norm": float(norm), "taken": 1.0}

    def _skipped(self, told: Counter[str], reason: str) -> dict[str, float]:
        self.in_a_row += 1
        logger.warning("step %d changes nothing: %s", self.step + 1, reason)
        if self.in_a_row >= self.settings.patience:
            raise TuningError(
                f"settings: {self.in_a_row} steps in a row changed nothing, the last one since {reason}; use a smaller"
                " learning rate, another precision, or look into the data"
            )
        return {**told, "skipped": 1}

    def _note(self, sums: _Sums) -> None:
        """Adds a row to the log: means over the steps that were taken, and sums over the processes of what is counted."""
        values, taken = sums.values, max(1, sums.values["taken"])
        counted = ("pairs", "broken", "phrases", "regions")
        own = torch.tensor([float(values[name]) for name in counted], device=self.accelerator.device)
        counts = dict(zip(counted, self.accelerator.reduce(own, "sum").tolist()))
        means = {name: values[name] / taken if values["taken"] else math.nan for name in ("loss", "global", "local", "norm")}
        row = {
            "step": self.step,
            **means,
            "rate": self.settings.rate(self.step - 1),
            "scale": float(self.objective.scale.detach().exp()),
            **counts,
            "skipped": float(values["skipped"]),
            "seconds": time.monotonic() - sums.began,
        }
        self.rows.append(row)
        self.accelerator.log(row, self.step)

    def _save(self) -> None:
        if self.folder is None or not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        self.folder.keep(
            {
                "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "step": self.step,
                "in_a_row": self.in_a_row,
                "rows": self.rows,
                "broken": self.broken,
            }
        )
        self.folder.write_log(self.rows)


def _accelerator(settings: TuneSettings, device: str | None, trackers: Sequence[str], out: str | Path | None) -> Any:
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    if device not in (None, "cpu"):
        raise ValueError(f"device: expected 'cpu', or None for what accelerate finds, got {line(str(device))}")
    # What an earlier run in this process was given, its precision or its device, would be kept without a word. Processes
    # that torchrun started keep the device of their rank.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    # The keys of the last block reach the dense features on no way, so that without the global loss they have no gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=not settings.global_weight)
    accelerator = Accelerator(
        mixed_precision=settings.precision,
        cpu=device == "cpu",
        log_with=list(trackers) or None,
        project_dir=None if out is None else str(out),
        kwargs_handlers=[unused],
    )
    if trackers:
        accelerator.init_trackers("gradeclip-tune", config=asdict(settings))
    return accelerator


def _fingerprint(model: nn.Module) -> str:
    """Tells the weights at the beginning of a run from others: a sum of all of them is not the same twice by chance."""
    total = [float(tensor.detach().double().abs().sum()) for tensor in model.parameters()]
    return f"{type(model).__name__} {len(total)} {sum(total):.12g}"
