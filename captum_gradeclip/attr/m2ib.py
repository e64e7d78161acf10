"""M2IB: the tokens through which information has to pass for image and text to match."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .. import adapters
from ..attention import Interception, Record, ReplaceOutput, model_heads
from ..progress import track
from ..scores import ModelScore, TextImageScore
from ..scores.checks import check_maps
from .base import Evidence, MethodInfo, NotDefinedError, Options, Request, Targets, TokenAttribution, number


@dataclass(frozen=True)
class M2IBOptions(Options):
    """The options of :class:`M2IB`.

    Attributes:
        beta: weight of the compression against the score, above 0 (default 0.1).
        steps: number of Adam steps, at least 1 (default 10).
        learning_rate: learning rate of Adam, above 0 (default 1).
        copies: number of copies of every example in each step, each with noise of its own, at least 1 (default 10).
        seed: seed of the noise (default 0); the global generator is left alone.
        tolerance: an example is done when a step, the tenth or a later one, changes its map by less than this share of the
            map's range from its lowest to its highest value, at least 0; ``None`` (default) runs all steps. Earlier steps
            are not asked, since hardly any noise passes in them and little changes.
        wrapper_bug: whether the words of a text are explained by the score of the released code, to which the figures of
            arXiv 2502.18816 belong (default False). Its text tower has no causal mask and projects twice.
        show_progress: whether a progress bar is drawn (default False).
    """

    beta: float = number(0.1, above=0)
    steps: int = number(10, least=1)
    learning_rate: float = number(1.0, above=0)
    copies: int = number(10, least=1)
    seed: int = number(0)
    tolerance: float | None = number(None, least=0)
    wrapper_bug: bool = False
    show_progress: bool = False


@dataclass(frozen=True)
class BlockOutput(Evidence):
    """The tokens that the bottleneck lies behind.

    Attributes:
        block: the block that outputs them.
        feature: the tokens ``(N, L, C)``, in single precision at least.
        visible: 1 for tokens that count and 0 for padding, ``(N, L, 1)``.
        axis: dimension of the examples in the block's output.
    """

    block: nn.Module
    feature: Tensor
    visible: Tensor
    axis: int | None


_FIRST_LOOK = 10
"""The first step that may end the search: alpha begins at 5 (open) and moves by about 1 per step."""


def kl_divergence(feature: Tensor, mask: Tensor) -> Tensor:
    r"""Nats that pass a bottleneck with standard normal noise.

    .. math:: KL\big(N(\lambda z, (1 - \lambda)^2) \,\|\, N(0, 1)\big)
        = -\tfrac12 \big(1 + \log (1 - \lambda)^2 - (\lambda z)^2 - (1 - \lambda)^2\big)

    Args:
        feature: features z of any shape.
        mask: the share of each feature that passes, at least 0 and below 1.

    Returns:
        A tensor of the same shape, not negative.

    >>> kl_divergence(torch.tensor([1.0, 2.0]), torch.tensor([0.1, 0.5]))
    tensor([0.0154, 0.8181])
    """
    variance = (1 - mask) ** 2
    return -0.5 * (1 + variance.log() - (mask * feature) ** 2 - variance)


def encode_wrapped(model: nn.Module, tokens: Tensor) -> Tensor:
    """Features ``(T, D)`` of texts as the wrapper around CLIP in the released code makes them, with their graph.

    They are not CLIP's: the wrapper has no causal mask, so that each token up to the end mark sees all of them, and it
    projects twice.

    Args:
        model: a model with CLIP's own text tower, whose projection is square.
        tokens: token ids ``(T, L)``.

    Raises:
        NotDefinedError: for any other text tower.
    """
    tower = adapters.text_tower(model)
    if tower.project is None or tower.readout.rows is None:
        raise NotDefinedError(
            "wrapper_bug: the text tower has to be CLIP's own, which ends in a projection from D to D that can be applied"
            " twice; leave it out for this model"
        )
    rows = tower.readout.rows(tokens)[:, None, None, None]

    def seen_by_all(record: Record) -> Tensor:
        if record.mask is None:
            return model_heads(record)
        # Under the causal mask, the token that is read sees just the tokens without padding.
        mask = record.mask.expand(len(tokens), record.heads, record.query.shape[-2], -1)
        return model_heads(replace(record, mask=mask.take_along_dim(rows, dim=-2)))

    with Interception(tower.layers, seen_by_all, graph=False):
        features = tower.encode(tokens)
    return tower.project(features)


class M2IB(TokenAttribution[M2IBOptions, BlockOutput]):
    r"""Multi-modal information bottleneck: tokens through which information has to pass to keep the score.

    .. math:: \min_\alpha \; \beta \, \mathrm{mean} \, KL - \mathrm{mean} \, S\big(\lambda Z + (1 - \lambda) \epsilon\big),
        \quad \lambda = \sigma(\alpha), \quad H_i = \sum_c KL_{ic}

    The bottleneck lies behind a block of the tower that is explained; the other tower stays as it is. Every example has its
    own bottleneck and all have the same noise, so a batch gives what its items give.

    Args:
        forward_func: as for :class:`~captum_gradeclip.GradECLIP`.
        layer: one block; the released code takes the tenth of twelve, the last but two.
        device_ids: accepted for Captum's sake.

    Maps are in nats and not negative: those of the last step that was evaluated. Padding behind the token that a text is
    read at counts for nothing and has no value.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> M2IB(score, score.layers[0]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Wang, Rudner, Wilson: "Visual Explanations of Image-Text Representations via Multi-Modal Information Bottleneck
    Attribution", NeurIPS 2023.
    """

    info = MethodInfo("M2IB", "Wang et al., NeurIPS 2023", text=True, stochastic=True, gradient=True, layers=3, unit="nats")
    Options = M2IBOptions

    @classmethod
    def default_layers(cls, score: ModelScore) -> list[nn.Module]:
        """The last block but two, the tenth of twelve; the first of fewer than three."""
        return [score.layers[max(0, len(score.layers) - 3)]]

    @classmethod
    def passes(cls, score: ModelScore, inputs: Tensor, targets: int, options: M2IBOptions) -> float:
        """Those of all copies in each step, with their gradients, and of each target; see where the copies begin below."""
        share = min(3, len(score.layers)) / len(score.layers) if score.readout.kind == "token" and inputs.dim() == 4 else 1.0
        return 1.0 + 2.0 * targets * options.steps * options.copies * share

    def observe(self, request: Request, options: M2IBOptions) -> BlockOutput:
        """The tokens that the block outputs."""
        if request.keeps_graph:
            raise NotDefinedError("grad_kwargs: the maps of M2IB are found by a search and have no graph; leave it out")
        if len(request.layers) != 1:
            raise ValueError(f"layer: M2IB has one bottleneck, got {len(request.layers)} layers")
        block, kept = request.site(request.layers[0]).module, []

        def keep(tokens: Tensor) -> Tensor:
            kept.append(tokens.detach().clone())
            return tokens

        first = ReplaceOutput(block, len(request.inputs), keep, request.examples_axis(block))
        output = request.forward(first, function=_function(request, options))
        with torch.inference_mode(False):
            feature = kept[0].to(torch.promote_types(kept[0].dtype, torch.float32))
            visible = _visible(request, feature.shape[1]).to(feature)[..., None]
        return BlockOutput(request, output, request.keys(feature.shape[1]), block, feature, visible, first.axis)

    def explain(self, evidence: BlockOutput, targets: Targets, options: M2IBOptions) -> Tensor:
        """Nats per token, one bottleneck after the other."""
        # Examples share nothing but the noise, so they need not share a pass.
        size = max(1, evidence.request.at_once(256) // options.copies)
        maps = []
        for one in targets.split(1):
            parts = zip(
                evidence.request.split(size),
                *(x.split(size) for x in (evidence.output, evidence.feature, evidence.visible)),
                one.index.split(size, dim=1),
            )
            for request, output, feature, visible, index in parts:
                part = replace(evidence, request=request, output=output, feature=feature, visible=visible)
                maps.append(_minimize(part, replace(one, index=index), options))
        return torch.cat(maps).unflatten(0, (len(targets), -1))  # type: ignore[no-any-return]


def _function(request: Request, options: M2IBOptions) -> Callable[[Tensor], Tensor] | None:
    """The score of texts that the released code explains, if it is asked for."""
    score = request.score
    if not options.wrapper_bug:
        return None
    if not isinstance(score, TextImageScore):
        raise ValueError(
            "wrapper_bug: it changes what a TextImageScore makes of texts; for images, bind wrapper_features(model,"
            " tokens) in the ImageTextScore instead"
        )
    return lambda tokens: score.compare(encode_wrapped(score.model, tokens))


def _visible(request: Request, length: int) -> Tensor:
    """Which tokens count ``(N, L)``: in a text that is read at its end, none of the padding behind it."""
    ends = torch.full((len(request.inputs),), length, device=request.inputs.device)
    stated = request.score.readout.rows
    if not request.is_image and stated is not None:
        rows = stated(request.inputs)
        ends = torch.where(rows > 0, rows + 1, ends)
    return torch.arange(length, device=request.inputs.device)[None] < ends[:, None]


def _minimize(evidence: BlockOutput, targets: Targets, options: M2IBOptions) -> Tensor:
    """Nats per token ``(N, L)`` for one target each."""
    feature, visible, copies, request = evidence.feature, evidence.visible, options.copies, evidence.request
    # A tower that reads its class token goes on with as many examples as leave its block, so that only the blocks behind
    # it see the copies. Others may look at masks, or find their end mark in the ids; arguments belong to the inputs.
    late = request.is_image and request.score.readout.kind == "token" and request.arguments is None
    given = request if late else request.repeat(copies)
    counts = torch.zeros_like(visible[..., 0], dtype=torch.bool)
    counts[:, evidence.tokens.content] = visible[:, evidence.tokens.content, 0] > 0
    result = torch.zeros(feature.shape[:2], dtype=torch.float32, device=feature.device)
    running = torch.ones(len(feature), 1, dtype=torch.bool, device=feature.device)
    generator = torch.Generator().manual_seed(options.seed)
    alpha = torch.full_like(feature, 5.0).requires_grad_()
    optimizer = torch.optim.Adam([alpha], lr=options.learning_rate)
    for step in track(range(1, options.steps + 1), "M2IB", disable=not options.show_progress):
        noise = torch.randn(copies, *feature.shape[1:], generator=generator).to(feature)
        with torch.enable_grad():
            # One minus a share that rounds to one has no logarithm.
            mask = alpha.sigmoid().clamp(max=1 - 1e-6)
            noisy = (mask * feature)[:, None] + (1 - mask)[:, None] * noise

            def bottleneck(tokens: Tensor, noisy: Tensor = noisy) -> Tensor:
                torch.set_grad_enabled(True)
                return noisy.flatten(0, 1).to(tokens.dtype)

            enters = ReplaceOutput(evidence.block, len(given.inputs), bottleneck, evidence.axis)
            output = given.forward(enters, function=_function(request, options))
            # The search differentiates twice: the score down to the noisy tokens, and the loss from there.
            (gradient,) = evidence.gradient(targets, output, [noisy])
            nats = kl_divergence(feature, mask)
            compression = (nats * visible).mean(dim=2).sum(dim=1) / visible.sum(dim=(1, 2))
            loss = options.beta * compression.sum() - (gradient[0] * noisy).sum() / copies
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        before, now = result, (nats * visible).detach().sum(dim=-1).float()
        result = torch.where(running, now, before)
        if options.tolerance is not None and step >= _FIRST_LOOK:
            moved = ((now - before) * counts).abs().amax(dim=1, keepdim=True)
            high = now.masked_fill(~counts, -torch.inf).amax(dim=1, keepdim=True)
            low = now.masked_fill(~counts, torch.inf).amin(dim=1, keepdim=True)
            running &= moved > options.tolerance * (high - low)
            if not running.any():
                break
    check_maps(result)
    return result
