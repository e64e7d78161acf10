"""Throws interrupts into explanations and counts what they leave: ``python benchmarks/interrupts.py``.

A chosen interrupt is raised at the beginning of one function (where CPython delivers signals) among all that a call runs; a
random one is a real SIGINT of another thread at a random moment. After each of them the model must answer bit for bit as
before, no mode may be left on torch's stack, the grad mode is the old one, and the interrupt must have arrived; after the
next call no hook may be left. An interrupt that falls into the closing of a generator or another finalizer is ignored by
Python itself, which says so; it is counted apart, since no library can raise it again. The result is printed and written to
``interrupts.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import torch
from rich.progress import track

from captum_gradeclip import METHODS, ImageTextScore, TextImageScore, explain, scenes
from captum_gradeclip.attr import CAPTUM, NotDefinedError
from captum_gradeclip.scores import ModelScore

Job = tuple[str, ModelScore, torch.Tensor, Callable[[], object]]
FAULTS = ("changed output", "mode left", "grad mode changed", "swallowed", "hook after the next call")


def jobs() -> list[Job]:
    """Every method on images and on texts of the embedded model, with what it is asked."""
    model, _, tokenizer = scenes.load()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    tokens = tokenizer(["a red circle", "two stars"])
    asked = [
        (ImageTextScore(model, ["a red circle", "two stars"], tokenizer), images),
        (TextImageScore(model, images), tokens),
    ]
    small = {"RISE": {"n_masks": 4}, "M2IB": {"steps": 2}, "IntegratedGradients": {"n_steps": 2}}
    found: list[Job] = []
    for score, inputs in asked:
        for kind in [*METHODS, *CAPTUM]:
            options = small.get(kind.__name__, {})
            method = kind.for_score(score)
            if kind.__name__ == "Occlusion":
                continue  # 49 windows of Captum, which look into no module
            for call in (method.attribute, method.attribute_targets):
                given = {"target": 0} if call.__name__ == "attribute" else {}
                job = lambda call=call, inputs=inputs, given=given, options=options: call(inputs, **given, **options)  # noqa: E731
                try:
                    job()
                except (NotDefinedError, TypeError, ValueError):
                    continue
                found.append((f"{kind.__name__}.{call.__name__} of {type(score).__name__}", score, inputs, job))
    score, inputs = asked[0]
    found.append(("explain", score, inputs, lambda: explain(model, images, ["a red circle"], tokenizer)))
    return found


class Bench:
    """Interrupts calls and counts the faults."""

    def __init__(self) -> None:
        self.jobs = jobs()
        self.expected = {id(score): self._answer(score, inputs) for _, score, inputs, _ in self.jobs}
        self.faults: Counter[str] = Counter()
        self.where: Counter[str] = Counter()
        self.tried: Counter[str] = Counter()

    @staticmethod
    def _answer(score: ModelScore, inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return score(inputs)

    def chosen(self, job: Job, at: int) -> int:
        """Interrupts a job at the beginning of its ``at``-th function; returns how many there were until then."""
        count, place = 0, ""

        def trace(frame: FrameType, event: str, _: object) -> None:
            nonlocal count, place
            if event == "call":
                count += 1
                if count == at:
                    sys.settrace(None)
                    place = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
                    signal.raise_signal(signal.SIGINT)

        def run() -> None:
            sys.settrace(trace)
            try:
                job[3]()
            finally:
                sys.settrace(None)

        arrived = self._interrupted(run)
        if place:
            self.tried["chosen"] += 1
            self._judge(job, arrived, place)
        return count

    def random(self, job: Job, seconds: float) -> None:
        """Interrupts a job by a signal of another thread after some seconds."""
        sent = threading.Event()

        def send() -> None:
            time.sleep(seconds)
            sent.set()
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=send)

        def run() -> None:
            thread.start()
            while not sent.is_set():
                job[3]()
            time.sleep(0.05)

        arrived = self._interrupted(run)
        thread.join()
        self.tried["random"] += 1
        self._judge(job, arrived, "a random moment")

    def _interrupted(self, run: Callable[[], None]) -> bool:
        """Whether the interrupt reached the caller, or Python told that it ignored it in a finalizer."""
        ignored: list[type[BaseException]] = []
        hook, sys.unraisablehook = sys.unraisablehook, lambda told: ignored.append(told.exc_type)
        try:
            run()
        except KeyboardInterrupt:
            return True
        except Exception as error:  # another error in its place is as bad as none
            self.where[f"{type(error).__name__} in the place of an interrupt"] += 1
            return False
        finally:
            sys.unraisablehook = hook
        if KeyboardInterrupt in ignored:
            self.tried["ignored by Python in a finalizer"] += 1
            return True
        return False

    def _judge(self, job: Job, arrived: bool, place: str) -> None:
        name, score, inputs, call = job
        modes, grad = torch._C._len_torch_function_stack(), torch.is_grad_enabled()
        found = {
            "changed output": not torch.equal(self._answer(score, inputs), self.expected[id(score)]),
            "mode left": modes > 0,
            "grad mode changed": not grad,
            "swallowed": not arrived,
        }
        torch.set_grad_enabled(True)
        while torch._C._len_torch_function_stack():
            torch._C._pop_torch_function_stack()
        call()
        parts = list(score.modules())
        found["hook after the next call"] = any(part._forward_hooks or part._forward_pre_hooks for part in parts)
        for part in parts:
            part._forward_hooks.clear()
            part._forward_pre_hooks.clear()
        for fault in FAULTS:
            self.faults[fault] += found[fault]
            if found[fault]:
                self.where[f"{fault}: {name} at {place}"] += 1


def main(arguments: list[str] | None = None) -> Counter[str]:
    """Runs the command line, and returns the number of faults of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, default=3000, help="interrupts at random moments [%(default)s]")
    parser.add_argument("--chosen", type=int, default=5000, help="interrupts at chosen moments [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("interrupts.json"), help="[%(default)s]")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background is started without
    torch.set_num_threads(1)
    bench, rng = Bench(), random.Random(0)
    calls = [bench.chosen(job, -1) for job in bench.jobs]
    for number in track(range(options.chosen), "chosen"):
        which = number % len(calls)
        bench.chosen(bench.jobs[which], rng.randint(1, calls[which]))
    for number in track(range(options.random), "random"):
        bench.random(bench.jobs[number % len(calls)], rng.uniform(0, 0.06))
    result = {"tried": bench.tried, "faults": bench.faults, "where": bench.where}
    options.out.write_text(json.dumps(result, indent=2))
    print(json.dumps({"tried": bench.tried, "faults": bench.faults}, indent=2))
    return bench.faults


if __name__ == "__main__":
    sys.exit(1 if any(main().values()) else 0)
