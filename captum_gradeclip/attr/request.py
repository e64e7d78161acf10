"""One question to a score: the inputs and layers it is about, and the forward passes that answer it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from math import prod
from types import MethodType
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..adapters import TextTower, is_known, is_untouched
from ..adapters.base import Foreign, parts
from ..adapters.training import first_of_its_list, models_behind, steady
from ..attention import (
    AsWritten,
    CaptureInput,
    Interception,
    LayerError,
    Record,
    RowInterception,
    RowReadings,
    Rule,
    Tap,
    examples_axis,
    is_observed,
    shown_patches,
)
from ..maps import possible_grids
from ..notices import notice
from ..scores import BareScore, ImageScore, ModelScore, Site, Targets, Tokens
from ..scores.checks import ForwardArguments, check_arguments, check_output
from .info import MethodInfo, NotDefinedError

Context = AbstractContextManager[object]
_Found = dict[object, tuple[int, tuple[int, int]] | None]
_SHOWN: WeakKeyDictionary[nn.Module, WeakKeyDictionary[Foreign, _Found]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Request:
    """A batch of inputs, the score and layers that are asked about them, and the forward passes of the model.

    Attributes:
        info: what the method that asks declares about itself.
        score: the forward function, as :func:`~captum_gradeclip.scores.describe` sees it.
        function: the forward function as it was given.
        layers: the chosen layers.
        inputs: images ``(N, C, H, W)`` or token ids ``(N, L)``.
        arguments: what the forward function is given behind the inputs.
        grad_kwargs: further arguments of :func:`torch.autograd.grad`.
        first: place of the first input among all inputs of the call, counted from 0 (default 0).
        left_out: number of tokens that were cut off at the end of the texts, since the score does not depend on them.
        second_order: whether the gradient is differentiated once more, though the maps keep no graph (default False).

    >>> from captum_gradeclip import GradECLIP, ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> request = Request(GradECLIP.info, score, score, score.layers[-1:], torch.rand(3, 3, 64, 64))
    >>> request.forward().shape, request.content().shape, [len(part.inputs) for part in request.split(2)]
    (torch.Size([3, 2]), (8, 8), [2, 1])
    """

    info: MethodInfo
    score: ModelScore | BareScore
    function: Callable[..., Foreign]
    layers: Sequence[nn.Module]
    inputs: Tensor
    arguments: ForwardArguments = None
    grad_kwargs: dict[str, object] = field(default_factory=dict)
    first: int = 0
    left_out: int = 0
    second_order: bool = False

    @property
    def is_image(self) -> bool:
        """Whether the inputs are images, which are floating point, rather than token ids, which are integers."""
        return self.inputs.is_floating_point()

    @property
    def examples(self) -> slice:
        """Which of all inputs these are."""
        return slice(self.first, self.first + len(self.inputs))

    @property
    def pools_convolutions(self) -> bool:
        """Whether the only attention is a pool over convolutions."""
        return bool(self.score.sites) and self.score.sites[0].kind == "pool"

    @property
    def states_readout(self) -> bool:
        """Whether the score knows which token it reads behind the chosen layers; otherwise only its gradient shows it."""
        known = {part for site in self.score.sites for part in parts(site.module)}
        return self.score.readout.kind != "unknown" and known.issuperset(self.layers)

    @property
    def keeps_graph(self) -> bool:
        """Whether the maps are to be differentiated themselves."""
        return bool(self.grad_kwargs.get("create_graph"))

    def split(self, size: int | None) -> Iterator[Request]:
        """Parts of at most ``size`` inputs, each with the part of the additional arguments that belongs to it."""
        check_arguments(self.arguments, len(self.inputs))
        size = size or len(self.inputs)
        for start in range(0, len(self.inputs), size):
            part = slice(start, start + size)
            chosen = self.changed(lambda argument, part=part: argument[part])  # type: ignore[misc]
            yield replace(chosen, first=self.first + start)

    def repeat(self, times: int) -> Request:
        """Each input ``times`` times, the copies of one input side by side, with the arguments that belong to it."""
        return self.changed(lambda argument: argument.repeat_interleave(times, dim=0))

    def changed(self, change: Callable[[Tensor], Tensor]) -> Request:
        """The same question about other examples: ``change`` is applied to the inputs and to all tensor arguments."""

        def each(argument: object) -> object:
            return change(argument) if isinstance(argument, Tensor) and argument.dim() > 0 else argument

        arguments = self.arguments
        others = tuple(map(each, arguments)) if isinstance(arguments, tuple) else each(arguments)
        return replace(self, inputs=change(self.inputs), arguments=others)

    def front(self) -> Request:
        """The same question about the front of the texts, where the score depends on nothing behind it.

        For methods that give tokens no value which the token that is read does not see.
        """
        if self.is_image or not isinstance(self.score, ModelScore):
            return self
        inputs, function = self.score.front(self.inputs)
        left_out = self.inputs.shape[1] - inputs.shape[1]
        return replace(self, inputs=inputs, function=function, left_out=left_out) if left_out else self

    def forward(self, *contexts: Context, function: Callable[..., Foreign] | None = None) -> Tensor:
        """One forward pass inside some contexts; a graph begins only where one of them says so.

        Args:
            contexts: contexts that see the pass, entered in this order.
            function: what runs in place of the forward function (default ``None``).
        """
        check_arguments(self.arguments, len(self.inputs))
        arguments = self.arguments if isinstance(self.arguments, tuple) else (self.arguments,)
        arguments = () if self.arguments is None else arguments
        # Under inference mode no graph could be built at all; its tensors become ordinary ones by cloning.
        with torch.inference_mode(False), torch.set_grad_enabled(self.keeps_graph), ExitStack() as stack:
            if self.keeps_graph or self.second_order:
                # The fused kernels of attention have no second derivative.
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            models = models_behind(self.function)
            known = {part for model in models for part in parts(model)}
            models += [layer for layer in self.layers if layer not in known]
            watched = [module for context in contexts if isinstance(context, Tap) for module in context.modules]
            stack.enter_context(AsWritten(watched, known.union(self.layers)))
            for context in contexts:
                stack.enter_context(context)
            inputs = self.inputs.clone() if self.inputs.is_inference() else self.inputs
            stack.enter_context(steady(models, inputs.device))
            output = check_output((function or self.function)(inputs, *arguments))
        return output

    def intercept(
        self,
        rule: Rule,
        *contexts: Context,
        layers: Sequence[nn.Module] | None = None,
        row: int | Tensor | None = None,
    ) -> Attention:
        """One forward pass in which the chosen layers answer by a rule, and what they were given.

        Args:
            rule: decides what the attention of the layers returns.
            contexts: further contexts that see the pass, entered before the interception.
            layers: layers in place of the chosen ones (default ``None``).
            row: index of the token that alone goes on behind the attention (default: all tokens go on); or those ``(N,)``
                of the tokens along which the graph runs, see :class:`~captum_gradeclip.attention.RowInterception`.
        """
        graph, chosen = self.info.gradient or not self.states_readout, self.layers if layers is None else layers
        seen = RowInterception(chosen, rule, row) if isinstance(row, Tensor) else Interception(chosen, rule, row, graph)
        output = self.forward(*contexts, seen)
        records = seen.records()
        for record in records:
            if record.query.shape[0] != self.inputs.shape[0]:
                raise ValueError(
                    f"layer: it attends in {record.query.shape[0]} groups for {self.inputs.shape[0]} inputs; layers with"
                    " attention inside windows (a hierarchical model), or inputs that are repeated on the way, cannot be"
                    " explained; use captum.attr.LayerGradCam for such models"
                )
        return Attention(self, output, self.keys(records[-1].key.shape[-2]), records)

    def intercept_tail(self, rule: Rule) -> Attention:
        """The same as :meth:`intercept`, with less work where the score reads one token.

        Everything behind the attention of the last layer then runs on the token that is read alone, or in a causal tower of
        texts the graph of any number of last layers; the records hold the query of that token only.
        """
        row = 0 if self._has_tokenwise_tail() else self._causal_rows()
        if row is None:
            return self.intercept(rule)
        try:
            return self.intercept(rule, row=row)
        except torch.cuda.OutOfMemoryError:
            raise  # all tokens would need more memory
        except LayerError:
            pass  # there are as many examples as tokens, say; the full pass tells what else may be wrong
        except (RuntimeError, IndexError) as error:
            notice(
                f"the read-out token alone was not enough to run {type(self.layers[0]).__name__} and what follows"
                f" ({error}); all tokens run instead, which gives the same map more slowly",
                stacklevel=5,
            )
        return self.intercept(rule)

    def readings(self, rules: Sequence[Rule]) -> list[Attention]:
        """What :meth:`intercept_tail` shows by each of several rules.

        It is one pass where the token that is read can run alone behind the last attention; there it runs once for each
        rule.
        """
        if not self._has_tokenwise_tail():
            return [self.intercept_tail(rule) for rule in rules]
        seen = RowReadings(self.layers[0], rules)
        try:
            output = self.forward(seen)
        except torch.cuda.OutOfMemoryError:
            raise  # all tokens would need more memory
        except (RuntimeError, IndexError, LayerError):
            return [self.intercept_tail(rule) for rule in rules]  # which tells what may be wrong
        keys = self.keys(seen.answers[0].key.shape[-2])
        return [Attention(self, part, keys, [one]) for part, one in zip(output.chunk(len(rules)), seen.answers)]

    def _has_tokenwise_tail(self) -> bool:
        """Whether the rest of the model can run on the read-out token alone, with nobody else looking into the block."""
        if len(self.layers) != 1 or not self.score.readout.tokenwise_tail:
            return False
        (layer,), sites = self.layers, self.score.sites
        if layer is not sites[-1].module or any(part.training for part in parts(layer)):
            return False
        # A hook on an earlier block sees all tokens anyway.
        earlier = {part for site in sites[:-1] for part in parts(site.module)}
        others = [] if self.score.model is None else [part for part in parts(self.score.model) if part not in earlier]
        return all(map(is_known, others)) and not is_observed(others)

    def _causal_rows(self) -> Tensor | None:
        """The rows that are read, where the chosen layers are the last of a causal tower that nobody else looks into."""
        tower = self.score.tower if isinstance(self.score, ModelScore) else None
        front = tower.front if isinstance(tower, TextTower) else None
        if tower is None or front is None or tower.readout.rows is None or self.keeps_graph or not self.info.gradient:
            return None
        last = {site.module for site in self.score.sites[-len(self.layers) :]}
        # The time of fewer tokens is that of reading the weights, which the token that runs alone reads once more.
        worth = front.causal and last == {*self.layers} and self.inputs.numel() > 32
        behind = front.parts() if worth else []
        alone = behind and is_untouched(behind) and not any(part.training for part in behind)
        if not alone:
            return None
        with torch.inference_mode(False):  # the rows take part in the graph
            return tower.readout.rows(self.inputs.clone() if self.inputs.is_inference() else self.inputs)

    def site(self, layer: nn.Module) -> Site:
        """The site of the score that a layer is or lies in; behind a bare callable, the layer itself."""
        sites = self.score.sites
        found = [site for site in sites if site.module is layer or layer in parts(site.module)]
        return found[0] if found else Site(layer)

    def keys(self, rows: int) -> Tokens:
        """What a number of keys of the first layer stands for."""
        if isinstance(self.score, BareScore) and self.score.stated is None and self.is_image:
            return self._shown_patches(rows)
        keys = self.score.tokens(self.site(self.layers[0]), self.inputs, rows)[1]
        return replace(keys, shape=(keys.shape[0] + self.left_out,), left_out=self.left_out) if self.left_out else keys

    def _shown_patches(self, rows: int) -> Tokens:
        size, layer = tuple(self.inputs.shape[-2:]), self.layers[-1]
        # Several functions may reach one layer, and each may give it other tokens.
        bound = self.function if isinstance(self.function, MethodType) else None
        owner = self.function if bound is None else bound.__self__
        remembers = type(owner).__weakrefoffset__ > 0
        known = _SHOWN.setdefault(layer, WeakKeyDictionary()).setdefault(owner, {}) if remembers else {}
        case = None if bound is None else bound.__func__, rows, size
        if case not in known:
            layers = first_of_its_list(layer, models_behind(self.function)), layer
            one = next(self.split(1))
            run = lambda images, entry: replace(one.repeat(len(images)), inputs=images).forward(entry)  # noqa: E731
            known[case] = shown_patches(run, layers, one.inputs, rows, possible_grids(rows, size))
        found = known[case]
        if found is None:
            raise ValueError(
                f"layer: its {rows} keys are not shown to be patches of the {size[0]} x {size[1]} image in raster order, as"
                " windows, channels, merged, dropped or shuffled tokens are not; if you know where they are, give"
                " captum_gradeclip.scores.BareScore(forward_func, grid=(rows, columns), start=keys in front) as forward_func"
            )
        return Tokens("patches", found[1], found[0])

    def content(self) -> Tokens:
        """The patches or words of the inputs, without regard to any layer.

        Raises:
            NotDefinedError: for images behind a bare callable, whose patches only its layers show.
        """
        if not self.is_image:
            return Tokens("words", (self.inputs.shape[1],))
        if not isinstance(self.score, ImageScore):
            raise NotDefinedError(f"forward_func: {self.info.name} needs a score module of images, which knows its patches")
        return Tokens("patches", self.score.grid(self.inputs))

    def examples_axis(self, layer: nn.Module) -> int | None:
        """Which dimension of a block's input and output holds the examples, shown by a pass of one of them alone.

        ``None`` where the shape itself will show it, since there are not just as many examples as tokens.
        """
        if self.is_image and not isinstance(self.score, ImageScore):
            return None
        # Up to sixteen tokens stand beside the patches: class, distillation and register tokens.
        if not 0 <= len(self.inputs) - prod(self.content().shape) <= 16:
            return None
        probe = CaptureInput(layer)
        next(self.split(1)).forward(probe)
        return examples_axis(probe.tensor, 1)

    def at_once(self, on_accelerator: int) -> int:
        """How many variants of an input one forward pass should hold.

        On a CPU, batches beyond about 16 images of 224 x 224 (3,136 tokens of 16 x 16 pixels) gain nothing and miss the
        cache, since the memory of larger activations is fetched anew in every block.

        Args:
            on_accelerator: the number on any other device, at least 1.
        """
        if self.inputs.device.type != "cpu":
            return on_accelerator
        size = self.inputs[0, 0].numel() / 16**2 if self.is_image else self.inputs.shape[1]
        return max(1, int(16 * 14**2 / size))


@dataclass(frozen=True)
class Evidence:
    """What the forward pass of a method has shown.

    Attributes:
        request: the question.
        output: scores ``(N, T)`` of the pass that is explained.
        tokens: what the rows of the maps stand for.
        features: unit features ``(N, D)`` that the scores are linear in, with their graph, where they were asked for.

    >>> from captum_gradeclip import GradECLIP, ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> request = Request(GradECLIP.info, score, score, [], torch.rand(2, 3, 64, 64))
    >>> evidence = Evidence(request, request.forward(), request.content())
    >>> evidence.tokens.kind, evidence.tokens.shape, evidence.output.shape
    ('patches', (8, 8), torch.Size([2, 2]))
    """

    request: Request
    output: Tensor
    tokens: Tokens
    features: Tensor | None = field(default=None, kw_only=True)

    @property
    def at(self) -> Sequence[Tensor]:
        """The tensors at which the gradient of the score is asked for."""
        return ()

    def fit(self, max_memory: int, most: int) -> int:
        """Of how many targets, at least 1, the gradients fit into some memory in bytes."""
        # The backward pass of a block holds gradients of about eight times its width for each target.
        values = sum(tensor.numel() for tensor in self.at)
        return max(1, min(most, max_memory // (values * 4 * 8))) if values else most

    def gradient(self, targets: Targets, output: Tensor | None = None, at: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The gradient of the targets at some tensors, ``(T, *tensor.shape)`` for each; by default at :attr:`at`."""
        chosen = self.output if output is None else output
        return targets.gradient(chosen, self.at if at is None else at, self.request.grad_kwargs)


@dataclass(frozen=True)
class Attention(Evidence):
    """What the attention of the chosen layers was given.

    Attributes:
        records: one for each layer, in the order in which the layers were given.

    The other fields are those of :class:`Evidence`.

    >>> from captum_gradeclip.attention import model_heads
    >>> from captum_gradeclip import GradECLIP, ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> request = Request(GradECLIP.info, score, score, score.layers[-1:], torch.rand(2, 3, 64, 64))
    >>> evidence = request.intercept(model_heads)
    >>> evidence.records[0].key.shape, evidence.tokens.start  # 64 patches behind the class token
    (torch.Size([2, 2, 65, 96]), 1)
    >>> (gradient,) = evidence.gradient(Targets.columns(None, evidence.output))
    >>> gradient.shape  # (T, N, Lq, C)
    torch.Size([2, 2, 65, 192])
    """

    records: Sequence[Record]

    @property
    def at(self) -> list[Tensor]:
        """The outputs of the attention of each layer, ``(N, Lq, C)``."""
        return [record.output for record in self.records if record.output is not None]

    @property
    def ordered(self) -> list[Record]:
        """The records in the order in which the layers ran."""
        return sorted(self.records, key=lambda record: record.order)

    def rows(self, targets: Targets, gradients: Sequence[Tensor] | None = None) -> Tensor | None:
        """Which row of the last layer the score reads in each example ``(N,)``; ``None`` where it reads several.

        At the last layer only the read-out token receives gradient, so it shows itself. Where several rows do (an average,
        or only inner layers were chosen), a score that knows its token states it.

        Args:
            targets: what is asked.
            gradients: the gradient at the output of each layer, ``(T, N, Lq, C)``, if it is known already.

        Raises:
            ValueError: for layers of several towers, which have different numbers of keys.
        """
        lengths = sorted({record.key.shape[-2] for record in self.records})
        if len(lengths) != 1:
            raise ValueError(
                f"layer: the chosen layers have different numbers of tokens, {lengths}; choose layers of one tower"
            )
        if self.request.site(self.request.layers[-1]).kind == "cross":
            return None  # each query takes its own part of the keys to the score, and has its own gradient
        stated = self.request.score.readout
        last_index, last = max(enumerate(self.records), key=lambda pair: pair[1].order)
        if gradients is not None:
            gradient = gradients[last_index]
        elif not self.request.states_readout and last.output is not None:
            gradient = self.gradient(targets)[last_index]
        else:
            return None if stated.rows is None else stated.rows(self.request.inputs)
        touched = gradient.ne(0).any(dim=-1).any(dim=0)
        if int(touched.sum(dim=-1).max()) <= 1:
            return touched.int().argmax(dim=-1)
        return None if stated.rows is None else stated.rows(self.request.inputs)

    def same_queries(self, record: Record) -> bool:
        """Whether the queries of a layer are those of the last one.

        The one query of an attention pool is no row of the blocks in front of it: all of their rows are read.
        """
        return record.query.shape[-2] == self.ordered[-1].query.shape[-2]
