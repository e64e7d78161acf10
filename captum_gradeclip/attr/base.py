"""A method of attribution: what one pass shows, and what follows from it for a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import torch
from captum.attr import Attribution, GradientAttribution, LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from ..adapters.base import Foreign
from ..attention import one_call, take_rows as take_rows
from ..former import renamed
from ..options import Options as Options, number as number
from ..quoting import quoted
from ..scores import Columns, ImageScore, ModelScore, Target, Targets as Targets, describe
from ..scores.checks import ForwardArguments, check_grad_kwargs, check_inputs, check_layers, check_maps, check_scores
from ..scores.targets import parse_columns
from ..timing import Stopwatch
from .checks import check_defined, check_layer_input

# What the author of a method needs can be imported from here.
from .info import MethodInfo as MethodInfo, NotDefinedError as NotDefinedError
from .outcome import Outcome, beside
from .request import Attention as Attention, Evidence as Evidence, Request as Request

if TYPE_CHECKING:
    from typing_extensions import Self

_O = TypeVar("_O", bound=Options)
_E = TypeVar("_E", bound=Evidence)


class _FormerInfo:
    """What a method says of itself, by the name that it had."""

    def __get__(self, method: object, kind: type[Method[Any, Any]]) -> MethodInfo:
        renamed(f"{kind.__name__}.about", f"{kind.__name__}.info")
        return kind.info


class Method(Attribution, Generic[_O, _E]):
    """The base of all methods: a method is its two verbs :meth:`observe` and :meth:`explain` with one class of options.

    Everything else is written once here: checks, targets, the fold from tokens to maps. ``forward_func`` stays public and
    may be replaced between calls, as Captum's TCAV does; nothing is derived from it before ``attribute``.

    >>> from captum_gradeclip.scores import Tokens
    >>> class Brightness(Method):
    ...     info = MethodInfo("brightness", "an example", class_discriminative=False)
    ...     def observe(self, request, options):
    ...         return Evidence(request, request.forward(), Tokens("patches", tuple(request.inputs.shape[-2:])))
    ...     def explain(self, evidence, targets, options):
    ...         return evidence.request.inputs.mean(dim=1).flatten(1).expand(len(targets), -1, -1)
    >>> Brightness(lambda images: images.mean(dim=(1, 2, 3))).attribute(torch.tensor([[[[0.0, 1.0]], [[1.0, 3.0]]]]))
    tensor([[[[0.5000, 2.0000]]]])
    """

    info: ClassVar[MethodInfo]
    Options: ClassVar[type[Options]] = Options
    forward_func: Callable[..., Foreign]

    about = _FormerInfo()
    """The name of :attr:`info` in version 0.1; it goes with the next version."""

    def observe(self, request: Request, options: _O) -> _E:
        """What one forward pass shows: all that maps are made of, whatever the target."""
        raise NotImplementedError

    def explain(self, evidence: _E, targets: Targets, options: _O) -> Tensor:
        """The value ``(T, N, rows)``, or ``(T, N, heads, rows)``, of every token for each of T targets, signed or not."""
        raise NotImplementedError

    def carried(self, evidence: _E, targets: Targets, options: _O) -> Tensor | None:
        """The share of the first-order score that the maps' tokens carry, ``(T, N)``; ``None`` (default) if unknown."""
        return None

    @log_usage()  # outermost: Captum reaches through it by __wrapped__
    @one_call
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: ForwardArguments = None,
        attribute_to_layer_input: bool = False,
        *,
        grad_kwargs: Mapping[str, object] | None = None,
        **options: object,
    ) -> Tensor:
        """One map per example.

        Args:
            inputs: images ``(N, C, H, W)``, floating point, or token ids ``(N, L)``, integer.
            target: which of an example's scores to explain, any of Captum's kinds (see
                :class:`~captum_gradeclip.scores.Targets`); ``None`` (default) if each example has one score, or the
                method does not depend on the target.
            additional_forward_args: what ``forward_func`` is given behind ``inputs`` (default nothing).
            attribute_to_layer_input: only False, the default, is possible.
            grad_kwargs: further arguments of :func:`torch.autograd.grad` (default none). With
                ``{"create_graph": True}`` the map keeps its graph.
            options: the fields of the method's :attr:`Options`.

        Returns:
            ``(N, 1, h, w)`` for images and ``(N, L)`` for texts, float32, finite and contiguous; methods with one map per
            head return ``(N, heads, h, w)`` and ``(N, heads, L)``. All tokens of a text have a value, also its marks and
            padding; :func:`captum_gradeclip.maps.merge_words` leaves those out.

        Raises:
            AssertionError: for a wrong target.
            NotDefinedError: if the method is not defined for this kind of model or input.
            ValueError: for inputs that are not finite or have another shape, options out of range, a layer that cannot be
                explained, a score that is not finite, or a model whose training mode would change it.
        """
        check_layer_input(attribute_to_layer_input)
        score, count = self._by_target(), len(check_inputs(inputs))
        if score is not None:
            asked = 0 if target is None and not self.info.class_discriminative else target
            index = Targets.parse(asked, torch.empty(count, score.columns or 1)).index[0]
            given: dict[str, Foreign] = {"grad_kwargs": grad_kwargs, **options}
            return self._for(score.aligned(index)).attribute(inputs, 0, additional_forward_args, **given)
        chosen = self.checked(options)
        request = self._request(inputs, additional_forward_args, grad_kwargs)
        evidence = self.observe(request, chosen)
        output = _aligned(evidence.output, request, "target")
        if target is None and not self.info.class_discriminative:
            check_scores(output)
            target = (0,) * (output.dim() - 1)
        maps = self._maps(evidence, Targets.parse(target, output), chosen)[0].contiguous()
        return maps[:, None] if request.is_image and maps.dim() == 3 else maps

    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        targets: Columns = None,
        additional_forward_args: ForwardArguments = None,
        *,
        chunk_size: int | None = None,
        max_memory: int = 2**28,
        grad_kwargs: Mapping[str, object] | None = None,
        **options: object,
    ) -> Tensor:
        """The maps of many targets from one forward pass: equal to a loop of :meth:`attribute`, and much faster.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the scores ``(N, S)``: T indices for all examples, ``(N, T)`` with a row of its own for each
                example, as a tensor or a list of lists of one length; ``None`` (default) for all columns, T = S.
            additional_forward_args: as in :meth:`attribute`.
            chunk_size: number of inputs in each forward pass, at least 1; ``None`` (default) for all at once.
            max_memory: largest number of bytes, estimated, for the gradients that are computed in one backward pass
                (default 2**28, which is 256 MiB); a smaller number takes more passes and gives the same maps.
            grad_kwargs: as in :meth:`attribute`.
            options: the fields of the method's :attr:`Options`.

        Returns:
            ``(N, T, h, w)`` for images, ``(N, T, L)`` for texts; methods with one map per head have a dimension ``heads``
            behind T.

        Raises:
            AssertionError: for an output that is not ``(N, S)``, or targets outside it.
            NotDefinedError: if the method is not defined for this kind of model or input.
            ValueError: as :meth:`attribute`, or for a ``chunk_size`` below 1.
        """
        found = self.outcome(
            inputs,
            targets,
            additional_forward_args,
            chunk_size=chunk_size,
            max_memory=max_memory,
            grad_kwargs=grad_kwargs,
            carried=False,
            **options,
        )
        assert found.maps is not None
        return found.maps

    @one_call
    def outcome(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        targets: Columns = None,
        additional_forward_args: ForwardArguments = None,
        *,
        chunk_size: int | None = None,
        max_memory: int = 2**28,
        grad_kwargs: Mapping[str, object] | None = None,
        carried: bool = False,
        **options: object,
    ) -> Outcome:
        """The maps of :meth:`attribute_targets` with the scores that were explained and the time that it took.

        Args:
            inputs: as in :meth:`attribute_targets`, and so are the other arguments.
            targets: columns of the scores, as in :meth:`attribute_targets`.
            additional_forward_args: as in :meth:`attribute`.
            chunk_size: number of inputs in each forward pass, at least 1; ``None`` (default) for all at once.
            max_memory: largest number of bytes for the gradients of one backward pass (default 2**28).
            grad_kwargs: as in :meth:`attribute`.
            carried: whether to say how much of the score the tokens of the maps carry (default False), where the method
                knows it; this takes a second backward pass through what lies behind the first layer.
            options: the fields of the method's :attr:`Options`.

        Returns:
            The maps, with the scores of the pass that was explained, the seconds, and the shares that are carried if they
            were asked for.

        Raises:
            AssertionError, ValueError: as :meth:`attribute_targets`.
        """
        chosen = self.checked(options)
        if chunk_size is not None and not (isinstance(chunk_size, int) and chunk_size >= 1):
            raise ValueError(f"chunk_size: expected at least one input for each forward pass, got {quoted(chunk_size)}")
        score = self._by_target()
        if score is not None:
            index = Targets.columns(targets, torch.empty(len(check_inputs(inputs)), score.columns or 1)).index
            settings: dict[str, Foreign] = {
                "chunk_size": chunk_size,
                "max_memory": max_memory,
                "carried": carried,
                **options,
            }
            settings["grad_kwargs"] = grad_kwargs
            each = [self._for(score.aligned(one)) for one in index]
            return beside([one.outcome(inputs, [0], additional_forward_args, **settings) for one in each])
        parts, scores, shares = [], [], []
        with Stopwatch(inputs.device if isinstance(inputs, Tensor) else "cpu") as watch:
            whole = self._request(inputs, additional_forward_args, grad_kwargs)
            columns = parse_columns(targets, len(whole.inputs))
            for request in whole.split(chunk_size):
                evidence, asked = self._asked(request, chosen, columns)
                parts.append(joined(list(self._parts(evidence, asked, chosen, max_memory))).transpose(0, 1))
                scores.append(asked.pick(evidence.output).detach().T)
                if carried:
                    shares += self._carried(evidence, asked, chosen, max_memory)
            maps = joined(parts).contiguous()
        return Outcome(
            type(self).__name__,
            self.info.name,
            maps,
            evidence.tokens,
            torch.cat(scores),
            watch.seconds,
            options,
            class_discriminative=self.info.class_discriminative,
            carried=torch.cat(shares) if shares else None,
        )

    def attribute_in_parts(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        targets: Sequence[int] | Tensor | None = None,
        additional_forward_args: ForwardArguments = None,
        *,
        most: int = 256,
        max_memory: int = 2**28,
        grad_kwargs: Mapping[str, object] | None = None,
        **options: object,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The maps of :meth:`attribute_targets`, those of some targets after the others, so that they never lie in memory.

        Args:
            inputs: as in :meth:`attribute_targets`, and so are the other arguments; all inputs share one forward pass.
            targets: columns of the scores ``(N, T)``; ``None`` (default) for all of them.
            additional_forward_args: as in :meth:`attribute`.
            most: largest number of targets of a part, at least 1 (default 256).
            max_memory: largest number of bytes, estimated, for what is computed at once (default 2**28).
            grad_kwargs: as in :meth:`attribute`.
            options: the fields of the method's :attr:`Options`.

        Yields:
            The columns ``(t,)`` of a part, and their maps ``(N, t, h, w)`` for images or ``(N, t, L)`` for texts.
            :func:`captum_gradeclip.maps.strongest` and :func:`~captum_gradeclip.maps.ranks` take them as they come.

        Raises:
            ValueError: as :meth:`attribute_targets`, or for ``most`` below 1.
        """
        if not (isinstance(most, int) and most >= 1):
            raise ValueError(f"most: expected at least one target for each part, got {quoted(most)}")
        chosen, count = self.checked(options), len(check_inputs(inputs))
        shared, score = parse_columns(targets, count), self._by_target()
        if shared is not None and shared.dim() != 1:
            raise AssertionError(
                "targets: expected columns (T,) for all inputs; attribute_targets takes some for each input"
            )
        if score is not None:
            asked = Targets.columns(shared, torch.empty(count, score.columns or 1))
            given: dict[str, Foreign] = {"max_memory": max_memory, "grad_kwargs": grad_kwargs, **options}
            for some in asked.index[:, 0].split(most):
                yield some, self.attribute_targets(inputs, some, additional_forward_args, **given)
            return
        request = self._request(inputs, additional_forward_args, grad_kwargs)
        evidence, asked = one_call(self._asked)(request, chosen, shared)
        parts, columns = self._parts(evidence, asked, chosen, max_memory, most), asked.index[:, 0]
        while len(columns):  # the end of a call of this package lies between two parts, where the caller may do anything
            maps = one_call(next)(parts)
            yield columns[: len(maps)], maps.transpose(0, 1).contiguous()
            columns = columns[len(maps) :]

    def get_name(self) -> str:
        """The name of the method, as papers print it."""
        return self.info.name

    @classmethod
    def default_layers(cls, score: ModelScore) -> list[nn.Module]:
        """The layers of a score module that the method is meant for: none for methods that look at no layers."""
        return []

    @classmethod
    def for_score(cls, score: ModelScore) -> Self:
        """The method on the layers of a score module that it is meant for."""
        return cls(score)

    @classmethod
    def of(cls, score: ModelScore) -> Self:
        """The name of :meth:`for_score` in version 0.1; it goes with the next version."""
        renamed(f"{cls.__name__}.of", f"{cls.__name__}.for_score")
        return cls.for_score(score)

    def _layers(self) -> list[nn.Module]:
        return []

    def _by_target(self) -> ModelScore | None:
        """The score, if it needs a pass for each of several targets."""
        score = describe(self.forward_func)
        return score if isinstance(score, ModelScore) and score.columns is not None else None

    def _for(self, score: ModelScore) -> Self:
        """The same method of another score with the same layers."""
        other = copy(self)
        other.forward_func = score
        return other

    @classmethod
    def checked(cls, options: Mapping[str, object]) -> _O:
        """The options of the method, made from some of its fields by name.

        Raises:
            TypeError: listing what there is, for another name.
            ValueError: for a value that does not fit.
        """
        known = list(cls.Options.__dataclass_fields__)
        for unknown in set(options) - set(known):
            raise TypeError(
                f"{cls.__name__} got an unexpected keyword argument {quoted(unknown)}; its options are"
                f" {', '.join(known) or 'none'}"
            )
        return cast("_O", cls.Options(**options))

    @classmethod
    def passes(cls, score: ModelScore, inputs: Tensor, targets: int, options: _O) -> float:
        """About how many times as long as one forward pass of the inputs the maps of some targets take.

        Methods that ask the model again and again say how often; one pass with its gradient, of the last layers or of a
        single token, takes about half as long again as one without, which is the answer here.

        Args:
            score: the score that is explained.
            inputs: images or token ids.
            targets: number of targets.
            options: the options of the method.

        Returns:
            A number of forward passes, above 0.
        """
        return 1.5

    def _request(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        additional_forward_args: ForwardArguments,
        grad_kwargs: Mapping[str, object] | None,
    ) -> Request:
        score, tensor, keywords = describe(self.forward_func), check_inputs(inputs), check_grad_kwargs(grad_kwargs)
        check_defined(self.info, score, tensor)
        layers = self._layers()
        if layers and score.sites and score.sites[0].kind == "cross" and not self.info.cross_attention:
            raise NotDefinedError(
                f"layer: {self.info.name} is not defined for cross-attention, whose queries are other tokens than its keys;"
                " the methods whose info.cross_attention is True explain it"
            )
        return Request(self.info, score, self.forward_func, layers, tensor, additional_forward_args, keywords)

    def _asked(self, request: Request, options: _O, columns: Tensor | None) -> tuple[_E, Targets]:
        """What one pass shows, and what is asked: columns ``(T,)``, or ``(N, T)`` with a row for each input of the call."""
        own = columns if columns is None or columns.dim() == 1 else columns[request.examples]
        evidence = self._observe(request, options, own)
        return evidence, Targets.columns(own, _aligned(evidence.output, request, "targets"))

    def _observe(self, request: Request, options: _O, columns: Tensor | None) -> _E:
        """What one forward pass shows of which many targets may be asked."""
        return self.observe(request, options)

    def _parts(
        self, evidence: _E, targets: Targets, options: _O, max_memory: int, most: int | None = None
    ) -> Iterator[Tensor]:
        """Maps ``(t, N, ...)`` of some targets after the others."""
        for some in targets.split(evidence.fit(max_memory, most or len(targets))):
            yield self._maps(evidence, some, options)

    def _carried(self, evidence: _E, targets: Targets, options: _O, max_memory: int) -> list[Tensor]:
        """The shares ``(N, T)`` that the tokens carry, in a list of one; none if the method does not know them."""
        with torch.inference_mode(False), torch.no_grad():
            parts = [self.carried(evidence, some, options) for some in targets.split(evidence.fit(max_memory, len(targets)))]
        known = [part.detach().float() for part in parts if part is not None]
        return [joined(known).T] if known else []

    def _maps(self, evidence: _E, targets: Targets, options: _O) -> Tensor:
        """Maps ``(T, N, ...)`` of some targets."""
        check_scores(targets.pick(evidence.output))
        with torch.inference_mode(False), torch.set_grad_enabled(evidence.request.keeps_graph):
            return checked(evidence.tokens.fold(self.explain(evidence, targets, options)), evidence)


class TokenAttribution(Method[_O, _E], LayerAttribution, GradientAttribution):
    """A Captum layer attribution whose layers are attention layers and whose maps lie on tokens.

    ``multiplies_by_inputs`` is False, as for Grad-CAM, since what multiplies a gradient belongs to the layer.

    Args:
        forward_func: a score of this package, the model, or any callable that returns ``(N,)`` or ``(N, T)``.
        layer: the attention layer, or a list of them; each a block or its attention module, inside the model.
        device_ids: accepted for Captum's sake; a model under ``nn.DataParallel`` is refused.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> from captum_gradeclip.attention import merge_heads, model_heads
    >>> class LengthOfValues(TokenAttribution):
    ...     info = MethodInfo("length of values", "an example", class_discriminative=False)
    ...     def observe(self, request, options):
    ...         return request.intercept(model_heads)
    ...     def explain(self, evidence, targets, options):
    ...         return merge_heads(evidence.records[-1].value).norm(dim=-1).expand(len(targets), -1, -1)
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle"], tokenizer)
    >>> LengthOfValues(score, score.layers[-1]).attribute(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 1, 8, 8])
    """

    layer: nn.Module | Sequence[nn.Module]

    def __init__(
        self,
        forward_func: Callable[..., Foreign],
        layer: nn.Module | Sequence[nn.Module],
        device_ids: list[int] | None = None,
    ) -> None:
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        GradientAttribution.__init__(self, forward_func)

    @classmethod
    def default_layers(cls, score: ModelScore) -> list[nn.Module]:
        """The layers of a score module that the method is meant for, as its paper chooses them."""
        count = cls.info.layers
        if not isinstance(score, ImageScore) and cls.info.text_layers is not None:
            count = cls.info.text_layers
        return score.layers[-count:] if count else score.layers

    @classmethod
    def for_score(cls, score: ModelScore) -> Self:
        """The method on the layers of a score module that it is meant for."""
        return cls(score, cls.default_layers(score))

    def _layers(self) -> list[nn.Module]:
        return check_layers(self.layer)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts, one behind the other; a single one as it is."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def checked(maps: Tensor, evidence: Evidence) -> Tensor:
    """Maps in single precision, with their graph only where it is asked for; refused unless they are finite."""
    check_maps(maps)
    return maps.float() if evidence.request.keeps_graph else maps.detach().float()


def _aligned(output: Tensor, request: Request, name: str) -> Tensor:
    """Scores of which each example has its own.

    Raises:
        AssertionError: for another number of scores than of inputs.
    """
    if len(output) != len(request.inputs):
        raise AssertionError(
            f"{name}: expected an output (N, T) with N = {len(request.inputs)}, got shape {tuple(output.shape)}"
        )
    return output
