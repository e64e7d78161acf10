"""M2IB: how much of each token must pass a noisy bottleneck for image and text to match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from captum.log import log_usage
from rich.progress import track
from torch import Tensor, nn

from .. import adapters
from ..attention import Interception, LayerOutput, Record, model_heads
from ..scores import TextImageScore, encode_text
from .base import (
    About,
    TokenAttribution,
    check_differentiable,
    check_inputs,
    check_self_attention,
    chunks,
    content_slice,
    is_image,
    refuse_layer_input,
    repeat_arguments,
    repeat_target,
    select,
    select_columns,
    variants_at_once,
)


@dataclass(frozen=True)
class _Options:
    """The choices of one explanation, checked."""

    beta: float
    steps: int
    learning_rate: float
    copies: int
    seed: int
    tolerance: float | None
    wrapper_bug: bool

    def __post_init__(self) -> None:
        for name in ("steps", "copies"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("beta", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")


_FIRST_LOOK = 10  # steps of about 1 that take a bottleneck from open, at 5, to wherever it belongs


def information(feature: Tensor, passed: Tensor) -> Tensor:
    r"""Nats that pass a bottleneck with standard normal noise.

    .. math:: KL\big(N(\lambda z, (1 - \lambda)^2) \,\|\, N(0, 1)\big)
        = -\tfrac12 \big(1 + \log (1 - \lambda)^2 - (\lambda z)^2 - (1 - \lambda)^2\big)

    Args:
        feature: z, of any shape.
        passed: the share that passes, between 0 and 1, below 1.

    Returns:
        Of the same shape, not negative.

    >>> information(torch.tensor([1.0, 2.0]), torch.tensor([0.1, 0.5]))
    tensor([0.0154, 0.8181])
    """
    variance = (1 - passed) ** 2
    return -0.5 * (1 + variance.log() - (passed * feature) ** 2 - variance)


def wrapper_features(model: nn.Module, tokens: Tensor) -> Tensor:
    """Features of texts as the wrapper around CLIP in M2IB's released code makes them; they are not CLIP's.

    Its text tower has no causal mask, so that each token up to the end mark sees all of them, and projects twice. To map
    images under it, bind these features: ``ImageTextScore(model, wrapper_features(model, tokens))``.

    Args:
        model: one with CLIP's own text tower, whose projection is square.
        tokens: ids ``(T, L)``.

    Returns:
        ``(T, D)``, unit vectors without a graph.

    Raises:
        ValueError: for any other text tower.

    >>> from captum_gradeclip import scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> wrapper_features(model, tokenizer(["a red circle", "two stars"])).shape
    torch.Size([2, 128])
    """
    return encode_text(model, tokens, partial(_encode_wrapped, model))


def _encode_wrapped(model: nn.Module, tokens: Tensor) -> Tensor:
    """The features with their graph, not normalised."""
    tower = adapters.text_tower(model)
    if tower.project is None or tower.readout is None:
        raise ValueError(
            "wrapper_bug: the text tower has to be CLIP's own, which ends in a projection from D to D that can be applied"
            " twice; leave it out for this model"
        )
    rows = tower.readout(tokens)[:, None, None, None]

    def seen_by_all(record: Record) -> Tensor:
        if record.mask is None:
            return model_heads(record)
        # Under the causal mask, the token that is read sees just the tokens without padding.
        mask = record.mask.expand(len(tokens), record.heads, record.query.shape[-2], -1)
        return model_heads(replace(record, mask=mask.take_along_dim(rows, dim=-2)))

    with Interception(tower.layers, seen_by_all, graph=False):
        features = tower.encode(tokens)
    return tower.project(features)


class M2IB(TokenAttribution):
    r"""Multi-modal information bottleneck: tokens through which information has to pass to keep the score.

    .. math:: \min_\alpha \; \beta \, \mathrm{mean} \, KL - \mathrm{mean} \, S\big(\lambda Z + (1 - \lambda) \epsilon\big),
        \quad \lambda = \sigma(\alpha), \quad H_i = \sum_c KL_{ic}

    The bottleneck lies behind a block of the tower that is explained; the other tower stays as it is. Every example has its
    own bottleneck and all have the same noise, so a batch gives what its items give.

    Args:
        forward_func: as for :class:`~captum_gradeclip.GradECLIP`.
        layer: one block; the released code takes the tenth of twelve, the last but two.
        device_ids: accepted for Captum's sake.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> M2IB(score, score.layers[0]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Wang, Rudner, Wilson: "Visual Explanations of Image-Text Representations via Multi-Modal Information Bottleneck
    Attribution", NeurIPS 2023.
    """

    about = About(
        name="M2IB",
        image=True,
        text=True,
        resnet=False,
        needs_text=True,
        stochastic=True,
        gradient=True,
        layers=3,
        text_layers=3,
        paper="Wang et al., NeurIPS 2023",
    )

    @classmethod
    def default_layers(cls, score: Any) -> list[nn.Module]:
        """The last block but two, the tenth of twelve; the first of fewer than three."""
        layers: list[nn.Module] = score.layers
        return [layers[max(0, len(layers) - 3)]]

    @log_usage()  # type: ignore[untyped-decorator]  # outermost: Captum reaches through it by __wrapped__
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        beta: float = 0.1,
        steps: int = 10,
        learning_rate: float = 1.0,
        copies: int = 10,
        seed: int = 0,
        tolerance: float | None = None,
        wrapper_bug: bool = False,
        show_progress: bool = False,
    ) -> Tensor:
        """One map per example.

        Args:
            inputs: images ``(N, 3, H, W)`` or token ids ``(N, L)``.
            target: which score to keep, any of Captum's kinds.
            additional_forward_args: passed to ``forward_func``.
            attribute_to_layer_input: refused.
            beta: weight of the compression.
            steps: of Adam.
            learning_rate: of Adam.
            copies: of every example with noise of their own, in each step.
            seed: of the noise; the global generator is left alone.
            tolerance: an example is done when a step, the tenth or a later one, changes its map by less than this share of
                the map's range, from its lowest to its highest value. Before, little changes since hardly any noise passes.
            wrapper_bug: of texts, explain the score of the released code, to which the figures of arXiv 2502.18816 belong;
                see :func:`wrapper_features`, which also tells how to map images under it.
            show_progress: draws a bar.

        Returns:
            ``(N, 1, h, w)`` or ``(N, L)`` in nats, not negative: of the last step that was evaluated. Padding behind the
            token that a text is read at counts for nothing and has no value.

        Raises:
            AssertionError: for a wrong target.
            ValueError: for a ResNet, options out of range, and as :meth:`captum_gradeclip.GradECLIP.attribute`.
        """
        refuse_layer_input(attribute_to_layer_input)
        check_self_attention(self, self._owner())
        options = _Options(beta, steps, learning_rate, copies, seed, tolerance, wrapper_bug)
        inputs = check_inputs(inputs)
        layers = self._layers()
        if len(layers) != 1:
            raise ValueError(f"layer: M2IB has one bottleneck, got {len(layers)} layers")
        # Examples share nothing but the noise, so they need not share a pass.
        size = max(1, variants_at_once(inputs, 256) // copies)
        block = self._block(layers[0])
        parts = [
            self._minimise(block, some, its_target, arguments, options, show_progress)
            for some, its_target, arguments in chunks(inputs, target, additional_forward_args, size)
        ]
        tokens = torch.cat(parts)
        return self._fold(tokens, tokens.shape[1], inputs)

    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor],
        targets: Sequence[int] | Tensor | None = None,
        additional_forward_args: Any = None,
        **options: Any,
    ) -> Tensor:
        """The maps of many targets, ``(N, T, h, w)`` or ``(N, T, L)``, one bottleneck after the other.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the output ``(N, T)``; ``None`` for all of them.
            additional_forward_args: as in :meth:`attribute`.
            options: of :meth:`attribute`.
        """
        inputs = check_inputs(inputs)
        columns = select_columns(self._forward(inputs, additional_forward_args), targets, len(inputs))
        maps: list[Tensor] = [self.attribute(inputs, one, additional_forward_args, **options) for one in columns]
        return torch.cat(maps, dim=1) if is_image(inputs) else torch.stack(maps, dim=1)

    def _visible(self, inputs: Tensor, length: int) -> Tensor:
        """Which tokens count ``(N, L)``: of a text that is read at its end, none of the padding behind it."""
        ends = torch.full((len(inputs),), length, device=inputs.device)
        readout = None if is_image(inputs) else getattr(self._owner(), "readout", None)
        rows = None if readout is None else readout(inputs)
        if rows is not None:
            ends = torch.where(rows > 0, rows + 1, ends)
        return torch.arange(length, device=inputs.device)[None] < ends[:, None]

    def _wrapper(self) -> Callable[[Tensor], Tensor]:
        """The score of texts that the released code explains."""
        owner = self._owner()
        if not isinstance(owner, TextImageScore):
            raise ValueError(
                "wrapper_bug: it changes what a TextImageScore makes of texts; for images, bind wrapper_features(model,"
                " tokens) in the ImageTextScore instead"
            )

        def score(tokens: Tensor) -> Tensor:
            return owner.compare(_encode_wrapped(owner.model, tokens))

        return score

    def _minimise(
        self,
        layer: nn.Module,
        inputs: Tensor,
        target: Any,
        additional_forward_args: Any,
        options: _Options,
        show_progress: bool,
    ) -> Tensor:
        """Nats per token ``(N, L)``."""
        kept: list[Tensor] = []

        def keep(tokens: Tensor) -> Tensor:
            kept.append(tokens.detach().clone())
            return tokens

        function = self._wrapper() if options.wrapper_bug else None
        first = LayerOutput(layer, len(inputs), keep, self._layout(layer, inputs, additional_forward_args))
        self._forward(inputs, additional_forward_args, first, function=function)
        feature = kept[0].to(torch.promote_types(kept[0].dtype, torch.float32))  # (N, L, C)
        copies, count = options.copies, len(inputs)
        # A tower that reads its class token goes on with as many examples as leave its block, so that only the blocks behind
        # it see the copies. Others may look at masks, or find their end mark in the ids; arguments belong to the inputs.
        early = additional_forward_args is not None or not getattr(self._owner(), "reads_first_token", False)
        given = inputs.repeat_interleave(copies, dim=0) if early else inputs
        arguments = repeat_arguments(additional_forward_args, copies) if early else additional_forward_args
        generator = torch.Generator().manual_seed(options.seed)
        with torch.inference_mode(False), torch.enable_grad():
            visible = self._visible(inputs, feature.shape[1]).to(feature)[..., None]  # (N, L, 1)
            content, _ = content_slice(feature.shape[1], inputs, getattr(self._owner(), "grid", None))
            counts = torch.zeros_like(visible[..., 0], dtype=torch.bool)
            counts[:, content] = visible[:, content, 0] > 0
            alpha = torch.full_like(feature, 5.0).requires_grad_()
            optimiser = torch.optim.Adam([alpha], lr=options.learning_rate)
            result = torch.zeros(feature.shape[:2], device=feature.device)
            running = torch.ones(count, 1, dtype=torch.bool, device=feature.device)
            for step in track(range(1, options.steps + 1), "M2IB", transient=True, disable=not show_progress):
                # One minus a share that rounds to one has no logarithm.
                passed = alpha.sigmoid().clamp(max=1 - 1e-6)
                noise = torch.randn(copies, *feature.shape[1:], generator=generator).to(feature)
                noisy = (passed * feature)[:, None] + (1 - passed)[:, None] * noise

                def bottleneck(tokens: Tensor, noisy: Tensor = noisy) -> Tensor:
                    torch.set_grad_enabled(True)
                    return noisy.flatten(0, 1).to(tokens.dtype)

                noise_enters = LayerOutput(layer, len(given), bottleneck, first.axis)
                output = self._forward(given, arguments, noise_enters, function=function)
                check_differentiable(output)
                scores = select(output, repeat_target(target, copies), count * copies).view(count, copies)
                nats = information(feature, passed)
                compression = (nats * visible).mean(dim=2).sum(dim=1) / visible.sum(dim=(1, 2))
                loss = (options.beta * compression - scores.mean(dim=1)).sum()
                (alpha.grad,) = torch.autograd.grad(loss, alpha)
                optimiser.step()
                before, now = result, (nats * visible).detach().sum(dim=-1).float()
                result = torch.where(running, now, before)
                if options.tolerance is not None and step >= _FIRST_LOOK:
                    moved = ((now - before) * counts).abs().amax(dim=1, keepdim=True)
                    high = now.masked_fill(~counts, -torch.inf).amax(dim=1, keepdim=True)
                    low = now.masked_fill(~counts, torch.inf).amin(dim=1, keepdim=True)
                    running &= moved > options.tolerance * (high - low)
                    if not running.any():
                        break
        if not torch.isfinite(result).all():
            raise ValueError("layer: its features overflowed; run the model in a wider dtype")
        return result
