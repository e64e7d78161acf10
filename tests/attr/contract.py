"""The contract of a method: what every one of them keeps, whatever it computes.

``Contract(kind, model, family)`` has one ``check_...`` for each clause. ``Contract.checks()`` lists them, so that a method
of one's own is tested by

    for check in Contract.checks():
        getattr(Contract(Mine, model, family), check)()
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from captum_gradeclip import ImageTextScore, TextImageScore
from captum_gradeclip.adapters import Family
from captum_gradeclip.attr import NotDefinedError, compare
from captum_gradeclip.attr.base import TokenAttribution

from ..conftest import captions, fingerprint, images, relative, scores, varies
from .refusals import REFUSES_CALLABLES, refusal

FEW = {"n_masks": 6, "steps": 2, "copies": 2}
"""Options that make a method quick, of those methods that have them: enough where the claim is that it runs or refuses."""
ENOUGH = {"n_masks": 6, "steps": 10, "copies": 2}
"""The same where the target must have had time to show: M2IB's first steps only close the bottleneck."""
SIGNED = {"relu_attributions": False, "scale": 1000.0}
"""Options with which a map always says something. With ReLU it is zero where all evidence is against the target. GAME begins
with the identity, so a cosine's small gradients hardly show beside it; the released code explains logits for that reason."""
FEATURES_ONLY = {"CLIPSurgery": "it compares features, so it never asks what ``forward`` returns"}
BESIDE_THE_SCORE = {
    "M2IB": "without a score, the bottleneck still closes, step by step",
    "GAME": "relevance begins with the identity, so the word that is read stays relevant for itself",
}
"""Methods whose maps are not zero where the gradient is, and why."""
WITHOUT_GRAPH = {"M2IB": "found by a search and have no graph"}
"""Methods whose maps cannot be differentiated, and why."""
TOO_MANY = 99
FOREIGN = ("readout", "grid", "alone", "pooled", "layers", "labels", "compare", "text_features", "sites", "tokens", "tower")
"""Names of this package that a user's model may well have, for something else."""


class Thrown(Exception):
    """What a user's module throws."""


class Contract:
    """What one method keeps on one family.

    Args:
        kind: the class of the method.
        model: of the family, in evaluation mode.
        family: its row in the table.
        few: options that make the method quick (default: those of :data:`FEW` that it has).
    """

    def __init__(self, kind: type[Any], model: nn.Module, family: Family, few: dict[str, Any] | None = None) -> None:
        self.kind, self.model, self.family = kind, model, family
        known = {field.name for field in dataclasses.fields(kind.Options)}
        self.few = {name: value for name, value in FEW.items() if name in known} if few is None else few
        self.enough = {name: value for name, value in ENOUGH.items() if name in known} if few is None else few
        self.signed = {name: value for name, value in SIGNED.items() if name in known}

    @classmethod
    def checks(cls) -> list[str]:
        """The clauses, by the names of their methods."""
        return [name for name in vars(cls) if name.startswith("check_")]

    # what is explained

    def every(self, count: int = 3) -> list[tuple[Any, Tensor, bool]]:
        """Each score of the family with inputs, and whether these are images."""
        size = self.family.oblong or self.family.size
        return [(score, x, x.is_floating_point()) for score, x, _ in scores(self.model, self.family, size, count)]

    def asked(self, count: int = 3) -> list[tuple[Any, Tensor, bool]]:
        """Those alone that the method is defined for."""
        return [one for one in self.every(count) if refusal(self.kind, self.family, one[2]) is None]

    def ways(self, score: Any, function: Callable[..., Any] | None = None) -> Iterator[Any]:
        """The method on its layers of a score, and behind another function where it takes one."""
        if function is None:
            yield self.kind.for_score(score)
        elif self.takes_callables:
            layers = self.kind.default_layers(score) if issubclass(self.kind, TokenAttribution) else None
            yield self.kind(function) if layers is None else self.kind(function, layers)

    @property
    def takes_callables(self) -> bool:
        return self.kind.__name__ not in REFUSES_CALLABLES

    def calls(self, method: Any, targets: int = 1) -> list[Callable[[Tensor], Tensor]]:
        """Both ways to ask."""
        return [
            lambda x: method.attribute(x, target=targets, **self.few),
            lambda x: method.attribute_targets(x, [targets], **self.few),
        ]

    # the clauses

    def check_refusals(self) -> None:
        """What the table says that it refuses is refused, with that reason, by both calls and by compare."""
        for score, inputs, image in self.every():
            reason = refusal(self.kind, self.family, image)
            method = self.kind.for_score(score)
            if reason is None:
                assert method.attribute(inputs, target=1, **self.few).shape[0] == len(inputs)
                continue
            for call in self.calls(method):
                with pytest.raises(NotDefinedError, match=reason):
                    call(inputs)
            (outcome,) = compare(score, inputs, [self.kind], targets=[1], options={self.kind.__name__: self.few})
            assert outcome.maps is None and re.search(reason, str(outcome.refused))

    def check_form(self) -> None:
        """Shape, type, layout, finite numbers, and maps that are not constant."""
        for score, inputs, image in self.asked():
            maps = self.kind.for_score(score).attribute(inputs, target=1, **self.few)
            cells = score.grid(inputs) if issubclass(self.kind, TokenAttribution) and image else inputs.shape[-2:]
            assert maps.shape == ((len(inputs), 1, *cells) if image else inputs.shape)
            assert maps.dtype == torch.float32 and maps.is_contiguous() and maps.isfinite().all()
            assert not maps.requires_grad
            assert varies(self.kind.for_score(score).attribute(inputs, target=1, **self.enough, **self.signed))

    def check_targets(self) -> None:
        """Many targets at once are a loop over them; they make a difference exactly where the method says so."""
        for score, inputs, image in self.asked():
            method = self.kind.for_score(score)
            many = method.attribute_targets(inputs, [2, 0, -1], **self.enough, **self.signed)
            for place, target in enumerate((2, 0, score_columns(score, inputs) - 1)):
                one = method.attribute(inputs, target=target, **self.enough, **self.signed)
                assert relative(many[:, place], one[:, 0] if image else one) < 1e-4
            # maps that say something, so that being alike says something too
            assert all(varies(many[:, place]) for place in range(3))
            for item in many:
                assert (relative(item[0], item[1]) > 1e-3) == self.kind.info.class_discriminative
            outcome = method.outcome(inputs, [2, 0], **self.enough, **self.signed)
            assert relative(outcome.maps, many[:, :2]) < 1e-6 and outcome.explained_scores.shape == (len(inputs), 2)
            assert (outcome.method, outcome.name) == (self.kind.__name__, self.kind.info.name)
            assert outcome.refused is None and outcome.seconds > 0
            assert outcome.class_discriminative == self.kind.info.class_discriminative
            assert outcome.tokens.kind == ("patches" if image else "words")

    def check_all_targets(self) -> None:
        """None stands for every column."""
        for score, inputs, _ in self.asked(count=2):
            method = self.kind.for_score(score)
            count = score_columns(score, inputs)
            every = method.attribute_targets(inputs, **self.few)
            assert every.shape[:2] == (len(inputs), count)
            some = [0, count // 2, count - 1]
            assert relative(every[:, some], method.attribute_targets(inputs, some, **self.few)) < 1e-4

    def check_batch(self) -> None:
        """A batch is its items, each with its own target."""
        for score, inputs, _ in self.asked():
            method = self.kind.for_score(score)
            together = method.attribute(inputs, target=[2, 0, 1], **self.few, **self.signed)
            for item, target in enumerate((2, 0, 1)):
                alone = method.attribute(inputs[item : item + 1], target=target, **self.few, **self.signed)
                assert relative(together[item : item + 1], alone) < 1e-3
            many = method.attribute_targets(inputs, [1, 2], **self.few, **self.signed)
            parts = method.attribute_targets(inputs, [1, 2], chunk_size=2, max_memory=1, **self.few, **self.signed)
            assert relative(parts, many) < 1e-3
            own = method.attribute_targets(inputs, [[1, 2], [2, 1], [1, 1]], chunk_size=2, **self.few, **self.signed)
            assert relative(own, torch.stack([many[0], many[1].flip(0), many[2, [0, 0]]])) < 1e-3

    def check_kinds_of_target(self) -> None:
        """All of Captum's kinds, also for scores of more dimensions."""
        for score, inputs, _ in self.asked():
            method = self.kind.for_score(score)
            every = [method.attribute(inputs, target=target, **self.few, **self.signed) for target in range(3)]
            for target in (1, torch.tensor(1), torch.tensor([1]), (1,), [1] * 3, torch.tensor([1] * 3), [(1,)] * 3):
                assert relative(method.attribute(inputs, target=target, **self.few, **self.signed), every[1]) < 1e-5
            chosen = torch.stack([every[target][item] for item, target in enumerate((2, 0, 1))])
            for target in ([2, 0, 1], torch.tensor([2, 0, 1]), [(2,), (0,), (1,)]):
                assert relative(method.attribute(inputs, target=target, **self.few, **self.signed), chosen) < 1e-3
            negative = method.attribute(inputs, target=1 - score_columns(score, inputs), **self.few, **self.signed)
            assert relative(negative, every[1]) < 1e-5

            def deep(x: Tensor, score: Any = score) -> Tensor:
                return score(x)[:, None]

            def flat(x: Tensor, score: Any = score) -> Tensor:
                return score(x)[:, 1]

            for bare in self.ways(score, lambda x, score=score: score(x)):
                plain = bare.attribute(inputs, target=1, **self.few, **self.signed)
            for bare in self.ways(score, deep):
                for target in ((0, 1), [(0, 1)] * 3):
                    assert relative(bare.attribute(inputs, target=target, **self.few, **self.signed), plain) < 1e-5
                with pytest.raises(AssertionError, match="targets: expected an output"):
                    bare.attribute_targets(inputs, [1], **self.few)
            for bare in self.ways(score, flat):
                assert relative(bare.attribute(inputs, **self.few, **self.signed), plain) < 1e-5

    def check_wrong_targets(self) -> None:
        """A wrong target is an assertion error, as in Captum, and leaves nothing behind."""
        for score, inputs, _ in self.asked():
            method, before = self.kind.for_score(score), fingerprint(self.model)
            for target in (TOO_MANY, -TOO_MANY, [0], torch.tensor([0, 1]), (0, 1), [0, TOO_MANY, 0], 0.5, "a"):
                with pytest.raises(AssertionError):
                    method.attribute(inputs, target=target, **self.few)
            if self.kind.info.class_discriminative:
                with pytest.raises(AssertionError):
                    method.attribute(inputs, **self.few)
            else:
                expected = method.attribute(inputs, target=1, **self.few)
                assert torch.equal(method.attribute(inputs, **self.few), expected)
            rows = [[0], [1]], [[0]] * 4, [[0], [1], [0, 1]], [[0], [1], [TOO_MANY]], [[[0]]] * 3, [[]] * 3
            for targets in (*rows, [], [TOO_MANY], [-TOO_MANY], [0.5], 1, torch.tensor(1), ["a"], [True]):
                with pytest.raises(AssertionError, match="targets: expected"):
                    method.attribute_targets(inputs, targets, **self.few)
            assert fingerprint(self.model) == before

    def check_callers_mode(self) -> None:
        """The same maps under no_grad, under inference mode (also for its tensors), and with gradients on."""
        for score, inputs, _ in self.asked(count=2):
            calls = self.calls(self.kind.for_score(score))
            expected = [call(inputs) for call in calls]
            for context in (torch.no_grad, torch.inference_mode, torch.enable_grad):
                with context():
                    for x in (inputs, inputs.clone()):
                        assert all(relative(call(x), one) < 1e-6 for call, one in zip(calls, expected))

    def check_autocast(self) -> None:
        """The model runs in bfloat16, the arithmetic behind it does not."""
        options = {**self.few, **({"n_masks": 300} if "n_masks" in self.few else {})}
        for score, inputs, _ in self.asked(count=2):
            method = self.kind.for_score(score)
            wide = method.attribute(inputs, target=1, **options, **self.signed)
            with torch.autocast("cpu", torch.bfloat16):
                narrow = method.attribute(inputs, target=1, **options, **self.signed)
            assert narrow.dtype == torch.float32 and narrow.isfinite().all()
            # noise in bfloat16 is other noise, so a stochastic method may differ more
            least = 0.9 if "copies" in self.few else 0.99
            assert torch.corrcoef(torch.stack([wide.flatten(), narrow.flatten()]))[0, 1] > least
            assert len(narrow.unique()) > 0.5 * len(wide.unique()), "rounded to bfloat16 on the way"

    def check_scores_that_are_not_finite(self) -> None:
        """Refused, whoever returns them: a callable, a score, a model whose weights are broken."""
        for score, inputs, image in self.asked(count=2):
            for value in (torch.nan, torch.inf):
                for method in self.ways(score, lambda x, score=score, value=value: score(x) * value):
                    self.refused(method, inputs, "NaN or infinite scores")
                if self.kind.__name__ not in FEATURES_ONLY:
                    with replaced_class(score, lambda own, x, value=value: super(type(own), own).forward(x) * value):
                        self.refused(self.kind.for_score(score), inputs, "NaN or infinite scores")
                # one example alone
                for method in self.ways(
                    score,
                    lambda x, score=score, value=value: score(x) * torch.tensor([1.0] * (len(x) - 1) + [value])[:, None],
                ):
                    self.refused(method, inputs, "NaN or infinite scores", targets_too=True)
            broken = copy.deepcopy(score)
            with torch.no_grad():
                last = [p for p in tower_of(broken, image).parameters() if p.dim() > 1][-1]
                last.fill_(torch.nan)
            self.refused(self.kind.for_score(broken), inputs, "NaN or infinite|overflowed")

    def check_other_columns(self) -> None:
        """Columns that nobody asks for may be minus infinity, as a model marks classes that it rules out."""
        for score, inputs, _ in self.asked(count=2):

            def masked(x: Tensor, score: Any = score) -> Tensor:
                return score(x).index_fill(1, torch.tensor([0]), -torch.inf)

            for plain, method in zip(self.ways(score, lambda x, score=score: score(x)), self.ways(score, masked)):
                for ask, other in zip(self.calls(method), self.calls(plain)):
                    assert relative(ask(inputs), other(inputs)) < 1e-5

    def check_inputs_that_are_wrong(self) -> None:
        """Pixels that are not finite, and anything but images or token ids."""
        for score, inputs, image in self.asked(count=2):
            method = self.kind.for_score(score)
            for value in (torch.nan, torch.inf, -torch.inf):
                if image:
                    broken = inputs.clone()
                    broken[1, 2, 3, 4] = value
                    self.refused(method, broken, "inputs: the images hold NaN or infinite values")
            self.refused(method, inputs[:0], "inputs: expected at least one example")
            self.refused(method, inputs[0], "inputs: expected (images|token ids)")
            self.refused(method, (inputs, inputs), "inputs: expected one tensor, got a tuple of 2")
            for call in self.calls(method):
                with pytest.raises(TypeError, match="inputs: expected a tensor"):
                    call([1, 2])  # type: ignore[arg-type]
                assert relative(call((inputs,)), call(inputs)) < 1e-6  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="nonsense"):
                method.attribute(inputs, target=1, nonsense=1)
            with pytest.raises(TypeError, match="nonsense"):
                method.attribute_targets(inputs, nonsense=1)
            if issubclass(self.kind, TokenAttribution):
                with pytest.raises(ValueError, match="attribute_to_layer_input: only False"):
                    method.attribute(inputs, target=1, attribute_to_layer_input=True)

    def check_foreign_attributes(self) -> None:
        """A model that owns our names for things of its own is explained as the same model without them."""
        for score, inputs, _ in self.asked(count=2):
            for own in (Plain(score), Owning(score), Owning(score, modules=True)):
                for given in (own, own.forward, lambda x, own=own: own(x)):
                    found = [call(inputs) for method in self.ways(score, given) for call in self.calls(method)]
                    if type(own) is Plain and given is own:
                        expected = found
                    assert all(relative(a, b) < 1e-6 for a, b in zip(found, expected)) and len(found) == len(expected)
            if not self.takes_callables:
                for own in (Plain(score), Owning(score), Owning(score, modules=True)):
                    method = self.kind(own, self.kind.default_layers(score))
                    for call in self.calls(method):
                        with pytest.raises(NotDefinedError, match=REFUSES_CALLABLES[self.kind.__name__]):
                            call(inputs)
            with owning(score.model):
                method = self.kind.for_score(score)
                got = [call(inputs) for call in self.calls(method)]
            assert all(
                relative(a, b) < 1e-6 for a, b in zip(got, [c(inputs) for c in self.calls(self.kind.for_score(score))])
            )

    def check_training_mode(self) -> None:
        """Refused where it would change the model or its result at random; else it is left on."""
        for score, inputs, _ in self.asked(count=2):
            method = self.kind.for_score(score)
            expected = [call(inputs) for call in self.calls(method)]
            hurts = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in self.model.modules())
            norm = next(part for part in self.model.modules() if isinstance(part, nn.LayerNorm | nn.BatchNorm2d))
            norm.train()
            before = fingerprint(self.model)
            try:
                if isinstance(norm, nn.BatchNorm2d):
                    assert hurts
                    self.refused(method, inputs, "is in training mode")
                else:
                    got = [call(inputs) for call in self.calls(method)]
                    assert all(relative(a, b) < 1e-5 for a, b in zip(got, expected))
                assert fingerprint(self.model) == before
            finally:
                norm.eval()
            if hurts:
                self.model.train()
                before = fingerprint(self.model)
                try:
                    self.refused(method, inputs, "is in training mode")
                    assert fingerprint(self.model) == before
                finally:
                    self.model.eval()

    def check_checkpointing(self) -> None:
        """Blocks that run a second time in the backward pass: explained rightly, or refused by a sentence."""
        for score, inputs, image in self.asked(count=2):
            tower = tower_of(score, image)
            if not hasattr(tower, "transformer") or not hasattr(tower.transformer, "grad_checkpointing"):
                continue
            for layers in (self.kind.default_layers(score), score.layers[-1:], score.layers[:1], score.layers[-2:]):
                method = self.kind(score, layers) if issubclass(self.kind, TokenAttribution) else self.kind.for_score(score)
                expected = [outcome_of(call, inputs)[0] for call in self.calls(method)]
                if any(one is None for one in expected):  # not a choice of layers for this method
                    continue
                for reentrant in (False, True):
                    for ask, right in zip(self.calls(method), expected):
                        with checkpointed(tower.transformer, reentrant):
                            got, said = outcome_of(ask, inputs)
                        if got is None:
                            # torch's old way leaves no graph at all, so there the layer seems to be off the path
                            assert re.search("gradient checkpointing|does not depend on the chosen layer", said), said
                        else:
                            assert relative(got, right) < 1e-5

    def check_graph(self) -> None:
        """With ``create_graph``, the map is the same and can be differentiated itself; else it has no graph."""
        for score, inputs, _ in self.asked(count=2):
            method = self.kind.for_score(score)
            for ask, target in ((method.attribute, 1), (method.attribute_targets, [1])):
                plain = ask(inputs, target, **self.few, **self.signed)
                assert not plain.requires_grad
                if self.kind.__name__ in WITHOUT_GRAPH:
                    with pytest.raises(NotDefinedError, match=WITHOUT_GRAPH[self.kind.__name__]):
                        ask(inputs, target, grad_kwargs={"create_graph": True}, **self.few)
                    continue
                before = fingerprint(self.model)
                kept = ask(inputs, target, grad_kwargs={"create_graph": True}, **self.few, **self.signed)
                assert kept.requires_grad and relative(kept, plain) < 1e-5
                learned = [p for p in self.model.parameters() if p.requires_grad]
                gradients = torch.autograd.grad(kept.pow(2).sum(), learned, allow_unused=True)
                found = [one for one in gradients if one is not None]
                assert all(one.isfinite().all() for one in found) and any(one.abs().max() > 0 for one in found)
                assert fingerprint(self.model) == before

    def check_layers_off_the_path(self) -> None:
        """A layer that runs beside the score, one of another tower, and one that does not run at all."""
        if not issubclass(self.kind, TokenAttribution):
            return
        for score, inputs, image in self.asked(count=2):
            side = nn.MultiheadAttention(24, 2, batch_first=True).eval()
            rows = 1 + math.prod(score.grid(inputs)) if image else inputs.shape[1]

            def beside(x: Tensor, score: Callable[..., Any] = score, side: nn.Module = side, rows: int = rows) -> Tensor:
                tokens = torch.zeros(len(x), rows, 24)
                side(tokens, tokens, tokens)
                result: Tensor = score(x)
                return result

            cases: list[tuple[Any, nn.Module]] = [(beside, side), (score, side), (beside, nn.MultiheadAttention(24, 2))]
            if self.family.text:
                other = (
                    TextImageScore(score.model, images(self.family.size))
                    if image
                    else ImageTextScore(score.model, captions())
                )
                cases.append((score, other.layers[-1]))
            for function, layer in cases:
                self.refused(self.kind(function, layer), inputs, "layer|needs a score|needs an ImageTextScore")
            with replaced_class(score, lambda own, x: beside(x, super(type(own), own).forward)):
                self.refused(
                    self.kind(score, side), inputs, "layer|needs a score|needs an ImageTextScore|never calls forward"
                )

    def check_zero_gradient(self) -> None:
        """A score that does not depend on its input has a map of zeros, and a warning says why."""
        if not self.kind.info.gradient:
            return
        for score, inputs, _ in self.asked(count=2):
            with replaced_class(score, lambda own, x: 0 * super(type(own), own).forward(x)):
                for call in self.calls(self.kind.for_score(score)):
                    with pytest.warns(UserWarning, match="exactly zero"):
                        maps = call(inputs)
                    assert maps.isfinite().all() and (not maps.any() or self.kind.__name__ in BESIDE_THE_SCORE)
            for method in self.ways(score, lambda x, score=score: 0 * score(x)):
                for call in self.calls(method):
                    with pytest.warns(UserWarning, match="exactly zero"):
                        call(inputs)

    def check_state(self) -> None:
        """What was passed is as it was: after success, a wrong target, and an exception in a hook."""
        for number, parameter in enumerate(self.model.parameters()):
            parameter.requires_grad_(number % 3 != 0)
        try:
            for score, inputs, _ in self.asked(count=2):
                method, before, kept = self.kind.for_score(score), fingerprint(self.model), inputs.clone()
                for call in self.calls(method):
                    call(inputs)
                    assert fingerprint(self.model) == before
                for call in self.calls(method, TOO_MANY):
                    with pytest.raises(AssertionError):
                        call(inputs)
                    assert fingerprint(self.model) == before

                def throw(*_: object) -> None:
                    raise Thrown

                for part in (score.layers[-1], score.layers[0]):
                    handle = part.register_forward_hook(throw)
                    try:
                        for call in self.calls(method):
                            with pytest.raises(Thrown):
                                call(inputs)
                    finally:
                        handle.remove()
                    assert fingerprint(self.model) == before
                assert torch.equal(inputs, kept) and not inputs.requires_grad and inputs.grad is None
        finally:
            self.model.requires_grad_(True)

    def check_as_many_examples_as_tokens(self) -> None:
        """A tensor's shape then does not tell which of its dimensions holds the examples."""
        size = self.family.size
        for score, inputs, image in self.asked(count=3):
            if not image:
                continue
            rows = score.grid(images(size))[0] * score.grid(images(size))[1]
            for count in (rows, rows + 1):
                x = images(size, count).to(inputs.dtype)
                maps = self.kind.for_score(score).attribute(x, target=1, **self.few, **self.signed)
                alone = self.kind.for_score(score).attribute(x[3:4], target=1, **self.few, **self.signed)
                assert relative(maps[3:4], alone) < 1e-3 and relative(maps[4:5], alone) > 1e-3

    def refused(self, method: Any, inputs: Any, message: str, targets_too: bool = True) -> None:
        """Both calls say so by a ValueError."""
        for call in self.calls(method):
            with pytest.raises(ValueError, match=message):
                call(inputs)


def outcome_of(call: Callable[[Tensor], Tensor], inputs: Tensor) -> tuple[Tensor | None, str]:
    """The maps, or what a ValueError says."""
    try:
        return call(inputs), ""
    except ValueError as error:
        return None, str(error)


def score_columns(score: Any, inputs: Tensor) -> int:
    """How many targets a score has."""
    with torch.no_grad():
        return int(score(inputs[:1]).shape[1])


def tower_of(score: Any, image: bool) -> nn.Module:
    """The module that encodes what is explained, as far as the model has one."""
    model = score.model
    names = ("visual", "vision_model") if image else ("text", "text_model")
    return next((getattr(model, name) for name in names if isinstance(getattr(model, name, None), nn.Module)), model)


@contextlib.contextmanager
def replaced_class(score: Any, forward: Callable[[Any, Tensor], Tensor]) -> Iterator[None]:
    """A score for whose class somebody wrote another ``forward`` below ours."""
    kind = type(score)
    score.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    try:
        yield
    finally:
        score.__class__ = kind


@contextlib.contextmanager
def checkpointed(transformer: nn.Module, reentrant: bool) -> Iterator[None]:
    """An open_clip transformer whose blocks run again in the backward pass, in torch's old or new way."""

    def run(function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None, **kwargs: Any) -> Any:
        return checkpoint(function, *args, use_reentrant=reentrant, **kwargs)

    transformer.grad_checkpointing = True  # type: ignore[assignment]
    try:
        with warnings.catch_warnings(), mock.patch("open_clip.transformer.checkpoint", run):
            warnings.filterwarnings("ignore", "None of the inputs have requires_grad")
            yield
    finally:
        transformer.grad_checkpointing = False  # type: ignore[assignment]


class Plain(nn.Module):
    """A user's model around a score."""

    def __init__(self, score: nn.Module) -> None:
        super().__init__()
        self.inner = [score]  # no submodule: the layers are found in the score
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner[0](x)
        return result


class Owning(Plain):
    """The same, with our names for things of its own: values, or modules."""

    def __init__(self, score: nn.Module, modules: bool = False) -> None:
        super().__init__(score)
        for name in (*FOREIGN, "model"):
            if modules or name == "model":
                setattr(self, name, nn.Linear(3, 3).eval())
            else:
                setattr(self, name, {"grid": (4, 4), "alone": True, "pooled": True}.get(name, 7))


@contextlib.contextmanager
def owning(model: nn.Module) -> Iterator[None]:
    """The model itself with our names, as far as it has none of its own by them."""
    added = [name for name in FOREIGN if not hasattr(model, name)]
    for name in added:
        setattr(model, name, (4, 4) if name == "grid" else True)
    try:
        yield
    finally:
        for name in added:
            delattr(model, name)
