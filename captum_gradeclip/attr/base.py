"""The chores that every method on intercepted layers shares: run, select, differentiate, find the read-out token."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from captum._utils.common import _run_forward, _select_targets
from captum.attr import LayerAttribution
from captum.attr._utils.attribution import GradientAttribution
from torch import Tensor, nn

from ..attention import Interception, LayerError, LayerOutput, Record, Rule
from ..maps import infer_grid
from ..scores import check_mode

if TYPE_CHECKING:
    from typing_extensions import Self


class NotDefinedError(ValueError):
    """A method is not defined for this kind of model or input; another method is."""


@dataclass(frozen=True)
class About:
    """What a method declares about itself.

    Attributes:
        name: as papers print it.
        image: whether it explains images.
        text: whether it explains texts.
        resnet: whether it explains an attention pool over convolutions.
        needs_text: whether its map depends on the target.
        stochastic: whether it draws random numbers.
        gradient: whether it differentiates the score.
        layers: how many of the last layers of an image tower it is meant for; 0 for all, or for none to be looked at.
        text_layers: the same for a text tower.
        paper: where it comes from.
    """

    name: str
    image: bool
    text: bool
    resnet: bool
    needs_text: bool
    stochastic: bool
    gradient: bool
    layers: int
    text_layers: int
    paper: str


class TokenAttribution(LayerAttribution, GradientAttribution):  # type: ignore[misc]  # captum is not typed
    """A Captum layer attribution whose layers are attention layers and whose maps lie on tokens.

    ``forward_func`` and ``layer`` stay public and may be replaced between calls (Captum's TCAV does so); nothing is
    derived from them before ``attribute``.

    Args:
        forward_func: the model, a score module, or any callable that returns ``(N,)`` or ``(N, T)``.
        layer: the attention layer, or a list of them; each a block or its attention module, inside the model.
        device_ids: accepted for Captum's sake; a model under ``nn.DataParallel`` is refused.
    """

    about: ClassVar[About]
    forward_func: Callable[..., Any]
    layer: nn.Module | Sequence[nn.Module]

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | Sequence[nn.Module],
        device_ids: list[int] | None = None,
    ) -> None:
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        GradientAttribution.__init__(self, forward_func)

    def get_name(self) -> str:
        """The name of the method, as papers print it."""
        return self.about.name

    @classmethod
    def default_layers(cls, score: Any) -> list[nn.Module]:
        """The layers of a score module that the method is meant for, as its paper chooses them."""
        layers: list[nn.Module] = score.layers
        # Only scores of images know a grid.
        count = cls.about.layers if hasattr(score, "grid") else cls.about.text_layers
        return layers[-count:] if count else layers

    @classmethod
    def of(cls, score: Any) -> Self:
        """The method on the layers of a score module that it is meant for."""
        return cls(score, cls.default_layers(score))

    def _layers(self) -> list[nn.Module]:
        layers = [self.layer] if isinstance(self.layer, nn.Module) else list(self.layer)
        if not layers:
            raise ValueError("layer: expected a module or a non-empty list of modules, got an empty list")
        for layer in layers:
            if not isinstance(layer, nn.Module):
                raise TypeError(f"layer: expected torch.nn.Module, got {type(layer).__name__}")
        return layers

    def _same_for_all(self, maps: Tensor, output: Tensor, targets: Sequence[int] | Tensor | None, inputs: Tensor) -> Tensor:
        """The map of a method that does not look at the target, for each of several."""
        count = len(select_columns(output, targets, len(inputs)))
        return (maps if is_image(inputs) else maps[:, None]).repeat_interleave(count, dim=1)

    def _run(
        self, inputs: Tensor, additional_forward_args: Any, rule: Rule, short: bool = True
    ) -> tuple[Tensor, list[Record]]:
        """One intercepted forward pass: the output, whose graph begins at the first chosen layer, and the records.

        Where the score says that it can, and ``short`` allows it, everything behind the attention of the last layer runs
        on the read-out token alone; the records then hold the query of that token only.
        """
        layers = self._layers()
        if short and self._alone(layers):
            try:
                return self._pass(layers, inputs, additional_forward_args, rule, row=0)
            except LayerError:  # as many examples as tokens, say; the full pass tells what else may be wrong
                pass
            except torch.cuda.OutOfMemoryError:
                raise  # all tokens would need more
            except (RuntimeError, IndexError) as error:
                warnings.warn(
                    f"the read-out token alone was not enough to run {type(layers[0]).__name__} and what follows"
                    f" ({error}); all tokens run instead, which gives the same map more slowly",
                    stacklevel=4,
                )
        return self._pass(layers, inputs, additional_forward_args, rule)

    def _alone(self, layers: list[nn.Module]) -> bool:
        """Whether one token may go on: the last block, of a score that reads its first token, with nobody looking on."""
        owner = self._owner()
        if len(layers) != 1 or not getattr(owner, "alone", False) or layers[0] is not owner.layers[-1]:
            return False
        parts = list(layers[0].modules())
        return not any(part.training or part._forward_hooks or part._forward_pre_hooks for part in parts)

    def _pass(
        self,
        layers: list[nn.Module],
        inputs: Tensor,
        additional_forward_args: Any,
        rule: Rule,
        *others: AbstractContextManager[Any],
        row: int | None = None,
    ) -> tuple[Tensor, list[Record]]:
        """One forward pass intercepted in these layers, inside the ``others``; without a graph if nobody needs it."""
        # A bare callable does not say which token it reads; its gradient does.
        graph = self.about.gradient or not hasattr(self._owner(), "readout")
        seen = Interception(layers, rule, row, graph)
        output = self._forward(inputs, additional_forward_args, *others, seen)
        records = seen.records()
        for record in records:
            if record.query.shape[0] != inputs.shape[0]:
                raise ValueError(
                    f"layer: it attends in {record.query.shape[0]} groups for {inputs.shape[0]} inputs; layers with"
                    " attention inside windows (a hierarchical model), or inputs that are repeated on the way, cannot be"
                    " explained; use captum.attr.LayerGradCam for such models"
                )
        if graph:
            check_differentiable(output)
        return output, records

    def _forward(
        self,
        inputs: Tensor,
        additional_forward_args: Any,
        *contexts: AbstractContextManager[Any],
        function: Callable[..., Any] | None = None,
    ) -> Tensor:
        """One forward pass (of another ``function``) in some contexts; a graph begins only where one of them says so."""
        check_mode(self._owner())
        check_arguments(additional_forward_args, len(inputs))
        # Under inference mode no graph could be built at all; its tensors become ordinary ones by cloning.
        with torch.inference_mode(False), torch.no_grad(), ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context)
            output = _run_forward(function or self.forward_func, _ordinary(inputs), None, additional_forward_args)
        return check_output(output)

    def _row(self, output: Tensor, records: list[Record], inputs: Tensor) -> Tensor | None:
        """Which row the score reads, ``(N,)``; ``None`` for several."""
        if not output.requires_grad:
            rows: Tensor | None = self._owner().readout(inputs)
            return rows
        last = max(records, key=lambda record: record.order)
        assert last.output is not None
        with torch.inference_mode(False), torch.enable_grad():
            total = output.sum()
        (gradient,) = torch.autograd.grad(total, last.output, retain_graph=True)
        return readout_rows(gradient, getattr(self._owner(), "readout", None), inputs)

    def _fold(self, tokens: Tensor, length: int, inputs: Tensor) -> Tensor:
        """Values of all ``length`` key tokens ``(N, [T,] L)`` to maps ``(N, 1 or T, h, w)``, ``(N, [T,] L)`` of texts."""
        content, shape = content_slice(length, inputs, getattr(self._owner(), "grid", None))
        maps: Tensor = tokens.detach().float()[..., content].unflatten(-1, shape)
        return (maps[:, None] if is_image(inputs) and tokens.dim() == 2 else maps).contiguous()

    def _dense_map(self, dense: Tensor, target: Any, inputs: Tensor) -> Tensor:
        """Scores of all tokens ``(N, L, T)`` to the maps of one target each."""
        select(dense[:, 0], target, len(inputs))  # says what is wrong in terms of the inputs
        flat, tokens = dense.flatten(0, 1), dense.shape[1]
        scores = select(flat, repeat_target(target, tokens), len(flat)).view(dense.shape[:2])
        return self._fold(scores, tokens, inputs)

    def _dense_maps(self, dense: Tensor, targets: Sequence[int] | Tensor | None, inputs: Tensor) -> Tensor:
        """Scores of all tokens ``(N, L, T)`` to the maps of many targets."""
        chosen = select_columns(dense[:, 0], targets, len(inputs))
        return self._fold(dense[..., chosen].transpose(1, 2), dense.shape[1], inputs)

    def _block(self, layer: nn.Module) -> nn.Module:
        """The block of the score that a layer is or lies in; behind a bare callable, the layer itself."""
        blocks: list[nn.Module] = self._owner().layers if hasattr(self._owner(), "readout") else []
        return next((block for block in blocks if any(part is layer for part in block.modules())), layer)

    def _layout(self, layer: nn.Module, inputs: Tensor, additional_forward_args: Any) -> int | None:
        """Which dimension of what a block hands on holds the examples, told by one of them alone.

        ``None`` where the shape itself will tell, since there are not just as many examples as tokens.
        """
        grid = getattr(self._owner(), "grid", None)
        if not is_image(inputs):
            tokens = inputs.shape[1]
        elif grid is None:
            return None
        else:
            rows, columns = grid(inputs)
            tokens = rows * columns
        if not 0 <= len(inputs) - tokens <= _MOST_PREFIX:
            return None
        (one, _, arguments), *_ = chunks(inputs, None, additional_forward_args, 1)
        probe = LayerOutput(layer, 1, lambda x: x)
        self._forward(one, arguments, probe)
        return probe.axis

    def _owner(self) -> Any:
        """The score module or model behind ``forward_func``, also when its bound ``forward`` was given."""
        return getattr(self.forward_func, "__self__", self.forward_func)


_MOST_PREFIX = 16  # tokens beside the patches: class, distillation, registers


def check_inputs(inputs: Any) -> Tensor:
    """The tensor of ``inputs`` (a tensor, or Captum's tuple of one), refused unless it is an image or token ids.

    Raises:
        TypeError: if it is no tensor.
        ValueError: for other shapes, several tensors, or values that are not finite.
    """
    if isinstance(inputs, tuple):
        if len(inputs) != 1:
            raise ValueError(
                f"inputs: expected one tensor, got a tuple of {len(inputs)}; bind the others in forward_func or pass"
                " them as additional_forward_args"
            )
        inputs = inputs[0]
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs: expected a tensor, got {type(inputs).__name__}")
    if inputs.is_floating_point():
        if inputs.dim() != 4:
            raise ValueError(f"inputs: expected images (N, C, H, W), got shape {tuple(inputs.shape)}")
        if not torch.isfinite(inputs).all():
            raise ValueError("inputs: the images hold NaN or infinite values; repair or leave out these images")
    elif inputs.dim() != 2 or inputs.dtype == torch.bool:
        raise ValueError(f"inputs: expected token ids (N, L), got {inputs.dtype} of shape {tuple(inputs.shape)}")
    if len(inputs) == 0:
        raise ValueError(f"inputs: expected at least one example, got shape {tuple(inputs.shape)}")
    return inputs


def check_arguments(additional_forward_args: Any, examples: int) -> None:
    """Refuses tensors among the additional arguments that are not aligned with the examples.

    Raises:
        ValueError: Captum repeats such tensors in NoiseTunnel and its metrics, and the target then means another text.
    """
    arguments = additional_forward_args if isinstance(additional_forward_args, tuple) else (additional_forward_args,)
    for argument in arguments:
        if isinstance(argument, Tensor) and argument.dim() > 0 and len(argument) != examples:
            raise ValueError(
                f"additional_forward_args: a tensor of shape {tuple(argument.shape)} does not have one entry for each of"
                f" the {examples} inputs, and Captum would repeat it as if it had; bind it in the forward function, as"
                " ImageTextScore binds its texts"
            )


def check_output(output: Any) -> Tensor:
    """The scores that a forward function returned.

    Raises:
        TypeError: for anything but a tensor.
    """
    if not isinstance(output, Tensor):
        raise TypeError(
            f"forward_func: expected a tensor (N,) or (N, T), got {type(output).__name__}; wrap the model in a"
            " function that returns its logits or similarities"
        )
    return output


def check_differentiable(output: Tensor) -> None:
    """Refuses a score without a graph.

    Raises:
        ValueError: if nothing could be differentiated.
    """
    if not output.requires_grad:
        raise ValueError(
            "forward_func: its output does not depend on the chosen layer through differentiable operations; choose a layer"
            " of the tower that makes the score, and do not detach, threshold or enter inference_mode in between"
        )


def chunks(inputs: Tensor, target: Any, additional_forward_args: Any, size: int) -> Iterator[tuple[Tensor, Any, Any]]:
    """Parts of the inputs with the targets and the parts of the additional arguments that belong to them.

    Raises:
        AssertionError: for targets that are more or fewer than the inputs.
        ValueError: for such tensors among the arguments.
    """
    check_arguments(additional_forward_args, len(inputs))
    each = isinstance(target, list) or (isinstance(target, Tensor) and target.numel() > 1)
    if each and len(target) != len(inputs):
        raise AssertionError(f"target: expected one for each of the {len(inputs)} inputs, got {target!r}")
    arguments = additional_forward_args
    for start in range(0, len(inputs), size):
        part = slice(start, start + size)

        def cut(argument: Any) -> Any:
            return argument[part] if isinstance(argument, Tensor) and argument.dim() > 0 else argument  # noqa: B023

        some = tuple(map(cut, arguments)) if isinstance(arguments, tuple) else cut(arguments)
        yield inputs[part], target[part] if each else target, some


def variants_at_once(inputs: Tensor, on_accelerator: int) -> int:
    """How many variants of such inputs one forward pass should hold.

    A processor is no faster with more than fill its cores, here sixteen images of 224 x 224 or texts of as many tokens, and
    slower where the memory of larger ones is fetched anew in every block.
    """
    if inputs.device.type != "cpu":
        return on_accelerator
    size = inputs[0, 0].numel() / 16**2 if is_image(inputs) else inputs.shape[1]  # in tokens, of usual patches
    return max(1, int(16 * 14**2 / size))


def check_kind(method: Any, inputs: Tensor) -> None:
    """Refuses images or texts that a method is not defined for.

    Raises:
        NotDefinedError: naming the method.
    """
    if not (method.about.image if is_image(inputs) else method.about.text):
        kind, other = ("images", "texts") if is_image(inputs) else ("texts", "images")
        raise NotDefinedError(f"inputs: {method.get_name()} is defined for {other}, not for {kind}; METHODS tells which are")


def check_self_attention(method: Any, owner: Any) -> None:
    """Refuses a score whose only attention is a pool over convolutions.

    Raises:
        NotDefinedError: naming the method, and what does apply.
    """
    if getattr(owner, "pooled", False):
        raise NotDefinedError(
            f"layer: {method.get_name()} follows attention from token to token, and an attention pool over convolutions has"
            " none; use RawAttention, TokenGradCam, MaskCLIP, CLIPSurgery, RISE or GradECLIP"
        )


def last_block(method: Any, owner: Any) -> nn.Module:
    """The last block of a score of images whose model reads its first token, and treats each on its own behind that block.

    Raises:
        NotDefinedError: naming the method, for any other score.
    """
    if not getattr(owner, "reads_first_token", False):
        raise NotDefinedError(
            f"layer: {method.get_name()} lets the model read one token after the other in place of its class token, so it"
            " needs a score module of images (ImageTextScore or ClassScore around the model) whose tower reads that token;"
            " this one is none, or reads several tokens, or mixes them afterwards"
        )
    block: nn.Module = owner.layers[-1]
    return block


def refuse_layer_input(attribute_to_layer_input: bool) -> None:
    """Refuses Captum's option to explain a layer's input.

    Raises:
        ValueError: if it is set.
    """
    if attribute_to_layer_input:
        raise ValueError(
            "attribute_to_layer_input: only False is possible, since queries, keys, values and the attention output are"
            " recorded inside the layer"
        )


def is_image(inputs: Tensor) -> bool:
    """Images are floating point, token ids are integers."""
    return inputs.is_floating_point()


def select(output: Tensor, target: Any, examples: int) -> Tensor:
    """One score per example ``(N,)`` by any of Captum's target kinds.

    Raises:
        AssertionError: for a wrong target, as in Captum.
    """
    with torch.inference_mode(False), torch.enable_grad():
        target = target.to(output.device) if isinstance(target, Tensor) else target
        check_columns(output, target)
        try:
            scores: Tensor = _select_targets(output, target)
        except (IndexError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "out of bounds" not in str(error):  # what torch.gather says
                raise
            raise AssertionError(
                f"target: expected indices into an output of shape {tuple(output.shape)}, got {target!r}"
            ) from error
        if scores.numel() != examples:
            raise AssertionError(
                f"target: {target!r} leaves {tuple(scores.shape)} of an output of shape {tuple(output.shape)}, expected"
                f" one score for each of the {examples} inputs; give an index into the last dimension"
            )
        return scores.reshape(examples)


def check_columns(output: Tensor, target: Any) -> None:
    """Refuses columns that an output ``(N, T)`` does not have, before a GPU's gather takes the whole process with it.

    Raises:
        AssertionError: as Captum does on the CPU.
    """
    many = isinstance(target, Tensor) and target.numel() > 1
    columns = target.tolist() if many else target
    if output.dim() != 2 or not isinstance(columns, list) or not all(isinstance(one, int) for one in columns):
        return
    if not all(0 <= one < output.shape[1] for one in columns):
        raise AssertionError(f"target: expected indices into an output of shape {tuple(output.shape)}, got {target!r}")


def repeat_target(target: Any, times: int) -> Any:
    """A target for every copy of an example, copies of one example side by side."""
    if isinstance(target, Tensor) and target.numel() > 1:
        return target.repeat_interleave(times)
    return [one for one in target for _ in range(times)] if isinstance(target, list) else target


def repeat_arguments(arguments: Any, times: int) -> Any:
    """Additional arguments for every copy of an example, copies of one example side by side."""

    def repeat(argument: Any) -> Any:
        return argument.repeat_interleave(times, dim=0) if isinstance(argument, Tensor) and argument.dim() else argument

    return tuple(map(repeat, arguments)) if isinstance(arguments, tuple) else repeat(arguments)


def select_columns(output: Tensor, targets: Sequence[int] | Tensor | None, examples: int) -> list[int]:
    """The columns of an output ``(N, T)`` that several targets mean, all of them for ``None``, counted from 0.

    Raises:
        AssertionError: for an output that is not ``(N, T)`` or an index outside it.
    """
    if output.dim() != 2 or output.shape[0] != examples:
        raise AssertionError(f"targets: expected an output (N, T) with N = {examples}, got shape {tuple(output.shape)}")
    count = output.shape[1]
    if targets is None:
        return list(range(count))
    try:
        columns = torch.as_tensor(targets).tolist()
    except (TypeError, ValueError, RuntimeError):
        columns = None
    if not isinstance(columns, list) or not columns:
        raise AssertionError(f"targets: expected a sequence of column indices, got {targets!r}")
    for column in columns:
        if not isinstance(column, int) or not -count <= column < count:
            raise AssertionError(f"targets: expected indices below {count}, got {column!r}")
    return [column % count for column in columns]


def over_targets(
    output: Tensor,
    targets: Sequence[int] | Tensor | None,
    examples: int,
    at_once: int,
    explain: Callable[[Tensor], Tensor],
) -> Tensor:
    """What a batched backward pass makes of several targets, ``(T, ...)``.

    Args:
        output: ``(N, T)``.
        targets: columns of it; ``None`` for all.
        examples: N.
        at_once: how many may share a pass, since each has gradients of its own.
        explain: seeds ``(some, N, T)`` of the gradient to ``(some, ...)``.
    """
    with torch.inference_mode(False):  # what is made under it cannot take part in a backward pass
        columns = torch.tensor(select_columns(output, targets, examples), device=output.device)
        parts = []
        for some in columns.split(at_once):
            seeds = torch.zeros(len(some), *output.shape, dtype=output.dtype, device=output.device)
            parts.append(explain(seeds.scatter(2, some[:, None, None].expand(-1, examples, 1), 1)))
        return torch.cat(parts)


def readout_rows(gradient: Tensor, readout: Callable[[Tensor], Tensor | None] | None, inputs: Tensor) -> Tensor | None:
    """Which query row the score reads in each example ``(N,)``, or ``None`` if it is all of them.

    At the last layer only the read-out token receives gradient, so it shows itself. Where several rows do (average
    pooling, or only inner layers chosen), a score module that knows its token is asked through its ``readout``.

    Args:
        gradient: at the output of the last chosen layer, ``(..., N, Lq, C)``.
        readout: inputs to rows ``(N,)``, or ``None`` for a bare callable.
        inputs: handed to ``readout``.
    """
    touched = gradient.ne(0).any(dim=-1)
    touched = touched.any(dim=0) if touched.dim() == 3 else touched
    if not touched.any():
        warnings.warn(
            "the gradient of the score at the last chosen layer is exactly zero, and so is the map: either the score"
            " does not depend on this input, or the layer comes after the token that is read",
            stacklevel=3,
        )
    if int(touched.sum(dim=-1).max()) <= 1:
        return touched.int().argmax(dim=-1)
    return None if readout is None else readout(inputs)


def take_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """Row ``rows[n]`` of ``x`` (..., N, Lq, C) for each example as ``(..., N, 1, C)``; all rows for ``None``."""
    if rows is None:
        return x
    index = rows.to(x.device)[:, None, None]
    return x.take_along_dim(index[(None,) * (x.dim() - 3)], dim=-2)


def key_tokens(records: Sequence[Record]) -> int:
    """The number of key tokens, which must be the same in all layers.

    Raises:
        ValueError: for layers of several towers.
    """
    lengths = {record.key.shape[-2] for record in records}
    if len(lengths) != 1:
        raise ValueError(
            f"layer: the chosen layers have different numbers of tokens, {sorted(lengths)}; choose layers of one tower"
        )
    return lengths.pop()


def content_slice(
    length: int, inputs: Tensor, known_grid: Callable[[Tensor], tuple[int, int]] | None
) -> tuple[slice, tuple[int, ...]]:
    """Where the patches or the words lie among the key tokens, and the shape ``(h, w)`` or ``(L,)`` they fold into.

    A score module knows the grid of its model; behind a bare callable it is inferred.
    """
    if is_image(inputs):
        if known_grid is None:
            prefix, grid = infer_grid(length, inputs.shape[-2:])
        else:
            grid = known_grid(inputs)
            prefix = length - grid[0] * grid[1]
            if prefix < 0:
                raise ValueError(
                    f"layer: it attends over {length} tokens, fewer than the image's {grid[0]} x {grid[1]} patches"
                )
        return slice(prefix, None), grid
    words = inputs.shape[1]
    if length < words:
        raise ValueError(
            f"layer: it attends over {length} tokens, but inputs hold {words}; is it a layer of the text tower?"
        )
    return slice(0, words), (words,)


def _ordinary(x: Tensor) -> Tensor:
    return x.clone() if x.is_inference() else x
