"""CLIP Surgery: dense features by value-value attention beside the model, freed of what all texts share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from captum.log import log_usage
from torch import Tensor
from torch.nn import functional as F

from ..attention import Branches, Interception, LayerOutput, Record, each_token, model_heads, value_value
from ..scores import ImageTextScore, TextImageScore, empty_text, encode_text
from .base import (
    About,
    NotDefinedError,
    TokenAttribution,
    check_inputs,
    check_kind,
    last_block,
    refuse_layer_input,
)

Redundancy = Literal["empty", "labels", "none"]
Normalisation = Literal["channels", "tokens"]
PoolQuery = Literal["query", "value"]


def feature_surgery(
    image_features: Tensor,
    text_features: Tensor,
    redundant_features: Tensor | None = None,
    *,
    temperature: float = 2.0,
    normalisation: Normalisation = "channels",
) -> Tensor:
    r"""Similarity of all tokens with all texts, without the part that does not tell the texts apart.

    .. math:: s_{it} = w_t F_i \cdot T_t - \frac1n \sum_{t'} w_{t'} F_i \cdot T_{t'}, \quad
        w_t = \frac{p_t}{\operatorname{mean}(p)}, \quad p = \operatorname{softmax}(\tau F_0 \cdot T)

    or, with redundant features :math:`E` (of the empty text, say), :math:`s_{it} = F_i \cdot (T_t - E)`.

    Args:
        image_features: F, ``(..., L, D)``, the class token first; made unit vectors.
        text_features: T, ``(T, D)``; made unit vectors.
        redundant_features: E, ``(D,)``, ``(1, D)`` or ``(T, D)``; made unit vectors.
        temperature: of the weights of the labels.
        normalisation: of F over its channels, or over its ``"tokens"`` as the demo of the released code had it before
            March 2025.

    Returns:
        ``(..., L, T)``, signed.

    Raises:
        ValueError: for features that do not fit together or are not finite, fewer than two labels and no redundant
            features, an unknown normalisation.

    >>> feature_surgery(torch.eye(2), torch.eye(2), torch.tensor([1.0, 0.0]))
    tensor([[ 0., -1.],
            [ 0.,  1.]])
    """
    if normalisation not in get_args(Normalisation):
        raise ValueError(f"normalisation: expected one of {get_args(Normalisation)}, got {normalisation!r}")
    texts, width = text_features.shape
    if image_features.shape[-1] != width or not torch.isfinite(text_features).all():
        raise ValueError(
            f"text_features: expected finite features (T, {image_features.shape[-1]}), got {tuple(text_features.shape)}"
        )
    if redundant_features is None:
        if texts < 2 or not math.isfinite(temperature):
            raise ValueError(
                "text_features: what labels share takes at least two of them and a finite temperature, got"
                f" {texts} and {temperature}; give redundant_features, of the empty text, say"
            )
    elif (
        redundant_features.shape not in ((width,), (1, width), (texts, width))
        or not torch.isfinite(redundant_features).all()
    ):
        raise ValueError(
            f"redundancy, redundant_features: expected finite features ({width},), (1, {width}) or ({texts}, {width}), got"
            f" {tuple(redundant_features.shape)}"
        )
    image_features = F.normalize(image_features, dim=-1 if normalisation == "channels" else -2)
    text_features = F.normalize(text_features, dim=-1)
    similarity = image_features @ text_features.mT
    if redundant_features is not None:
        return similarity - image_features @ F.normalize(redundant_features.view(-1, image_features.shape[-1]), dim=-1).mT
    weight = (temperature * similarity[..., :1, :]).softmax(dim=-1)
    weighted = weight / weight.mean(dim=-1, keepdim=True) * similarity
    return weighted - weighted.mean(dim=-1, keepdim=True)


class CLIPSurgery(TokenAttribution):
    r"""Similarity of every patch with the text, from a second path through the last blocks.

    Beside the model, whose own path stays as it is, a second residual stream begins at the first chosen block and takes
    from each of them only value-value attention of the *original* stream, no MLP:

    .. math:: x^{new} \leftarrow x^{new} + \operatorname{softmax}\Big(\frac{V V^\top}{\sqrt d}\Big) V \, W_o + b_o

    Its tokens, with the model's own class token in front, go through the model's last norm and projection.
    :func:`feature_surgery` then compares them with the texts. An attention pool over convolutions does the same once, with
    unit values and eight times the scale.

    Args:
        forward_func: an :class:`~captum_gradeclip.ImageTextScore` whose image tower reads its class token, or has an
            attention pool over convolutions. Its texts may be cached features, see
            :func:`captum_gradeclip.prompts.prompt_ensemble`.
        layer: the last blocks, ``score.layers[-6:]``, of any depth.
        device_ids: accepted for Captum's sake.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> CLIPSurgery(score, score.layers[-6:]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Li, Wang, Duan, Li: "CLIP Surgery for Better Explainability with Enhancement in Open-Vocabulary Tasks",
    arXiv 2304.05653.
    """

    about = About(
        name="CLIP Surgery",
        image=True,
        text=False,
        resnet=True,
        needs_text=True,
        stochastic=False,
        gradient=False,
        layers=6,
        text_layers=6,
        paper="Li et al., arXiv 2304.05653",
    )

    @log_usage()  # type: ignore[untyped-decorator]  # outermost: Captum reaches through it by __wrapped__
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        redundancy: Redundancy | Tensor = "empty",
        temperature: float = 2.0,
        normalisation: Normalisation = "channels",
        pool_query: PoolQuery = "query",
    ) -> Tensor:
        """One map per example.

        Args:
            inputs: images ``(N, 3, H, W)``.
            target: which text of the score to map, any of Captum's kinds.
            additional_forward_args: refused, since the features are looked at and not the forward function's output.
            attribute_to_layer_input: refused.
            redundancy: what all texts share and is taken off: the ``"empty"`` text (so that a map does not depend on the
                other texts), the weighted mean over all ``"labels"`` of the score, which should then be many, ``"none"``,
                or features ``(D,)``, ``(1, D)`` or ``(T, D)`` of your own, such as a prompt ensemble of the empty text.
            temperature: of the weights of the labels, with ``redundancy="labels"`` only.
            normalisation: of the features over their ``"channels"``, or over the ``"tokens"`` as in the code that the
                figures of arXiv 2502.18816 come from.
            pool_query: weights with which the class token of an attention pool asks, the model's, or those of its
                ``"value"`` as in the released code, whose class token is then not the model's; it weighs the labels.

        Returns:
            ``(N, 1, h, w)``, signed differences of cosines.

        Raises:
            AssertionError: for a wrong target.
            ValueError: for texts, classifiers, and towers that do not read a class token.
        """
        refuse_layer_input(attribute_to_layer_input)
        inputs = check_inputs(inputs)
        dense = self._similarity(inputs, additional_forward_args, redundancy, temperature, normalisation, pool_query)
        return self._dense_map(dense, target, inputs)

    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor],
        targets: Sequence[int] | Tensor | None = None,
        additional_forward_args: Any = None,
        *,
        redundancy: Redundancy | Tensor = "empty",
        temperature: float = 2.0,
        normalisation: Normalisation = "channels",
        pool_query: PoolQuery = "query",
    ) -> Tensor:
        """The maps of many targets from one forward pass, ``(N, T, h, w)``.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the output ``(N, T)``; ``None`` for all of them.
            additional_forward_args: refused, as in :meth:`attribute`, whose options these are.
        """
        inputs = check_inputs(inputs)
        dense = self._similarity(inputs, additional_forward_args, redundancy, temperature, normalisation, pool_query)
        return self._dense_maps(dense, targets, inputs)

    def dense_features(self, inputs: Tensor | tuple[Tensor], pool_query: PoolQuery = "query") -> Tensor:
        """Features of all tokens ``(N, L, D)``, not normalised: the class token's is the model's own, the rest is dense.

        Args:
            inputs: as in :meth:`attribute`, and so is the option.
            pool_query: with ``"value"``, the class token is not the model's own.
        """
        inputs = check_inputs(inputs)
        check_kind(self, inputs)
        score, layers, count = self._score(), self._layers(), len(inputs)
        last = score.layers[-1] if score.pooled else last_block(self, score)
        if [id(one) for one in layers] != [id(one) for one in score.layers[-len(layers) :]]:
            raise ValueError(
                "layer: CLIP Surgery needs the last blocks of the image tower in their order, score.layers[-n:]"
            )
        if pool_query not in get_args(PoolQuery):
            raise ValueError(f"pool_query: expected one of {get_args(PoolQuery)}, got {pool_query!r}")
        if score.pooled:
            rule = _pool if pool_query == "query" else _pool_by_value
            features = self._forward(inputs, None, Interception(layers, rule), function=score.features)
            dense: Tensor = features.detach().unflatten(0, (count, -1))
            return dense
        if pool_query != "query":
            raise ValueError("pool_query: this tower has no attention pool over convolutions; leave it out")
        axis = self._layout(last, inputs, None)
        beside = Branches(layers, value_value, count, axis)

        def second_path(tokens: Tensor) -> Tensor:
            stream = beside.inputs[0] + sum(beside.added)
            return each_token(torch.cat([tokens[:, :1], stream[:, 1:]], dim=1))

        handed_on = LayerOutput(last, count, second_path, axis)
        features = self._forward(inputs, None, beside, handed_on, function=score.features)
        dense = features.unflatten(0, (count, -1))
        return dense

    def _similarity(
        self,
        inputs: Tensor,
        additional_forward_args: Any,
        redundancy: Redundancy | Tensor,
        temperature: float,
        normalisation: Normalisation,
        pool_query: PoolQuery,
    ) -> Tensor:
        """Of all tokens with all texts of the score, ``(N, L, T)``."""
        if additional_forward_args is not None:
            raise ValueError(
                "additional_forward_args: CLIP Surgery looks at features and takes none; bind them in the score"
            )
        check_kind(self, inputs)
        score = self._score()
        texts = score.text_features
        features = self.dense_features(inputs, pool_query).to(texts.dtype)
        redundant: Tensor | None = None
        if isinstance(redundancy, Tensor):
            redundant = redundancy.to(texts)
        elif redundancy == "empty":
            try:
                redundant = score.empty_features
            except ValueError as error:
                raise NotDefinedError(str(error)) from error
        elif redundancy not in get_args(Redundancy):
            raise ValueError(f"redundancy: expected features or one of {get_args(Redundancy)}, got {redundancy!r}")
        elif redundancy == "none":
            redundant = texts.new_zeros(1, texts.shape[1])  # stays zero as a unit vector
        with torch.autocast(inputs.device.type, enabled=False):
            return feature_surgery(features, texts, redundant, temperature=temperature, normalisation=normalisation)

    def _score(self) -> ImageTextScore:
        owner = self._owner()
        if not isinstance(owner, ImageTextScore):
            raise NotDefinedError(
                "forward_func: CLIP Surgery compares dense features with texts, so it needs an ImageTextScore, got"
                f" {type(owner).__name__}"
            )
        return owner


def word_relevance(score: TextImageScore, tokens: Tensor, redundancy: Tensor | None = None) -> Tensor:
    r"""How much each token of a text says what the image shows, in the manner of CLIP Surgery; *our* construction.

    .. math:: r_j = F_0 \cdot (T_j - T_{empty})

    with the features :math:`T_j` that the model would have if it read token :math:`j`. The paper announces a visualisation
    of words and its code has none, so no figure of the papers belongs to this.

    Args:
        score: of the images; its text tower reads one token.
        tokens: ids ``(N, L)``.
        redundancy: features ``(D,)`` or ``(1, D)`` in place of those of the empty text.

    Returns:
        ``(N, M, L)`` for the M images of the score, signed; zero behind the end mark.

    >>> from captum_gradeclip import TextImageScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> word_relevance(TextImageScore(model, torch.rand(2, 3, 64, 64)), tokenizer(["a red circle"])).shape
    torch.Size([1, 2, 24])
    """
    if not isinstance(score, TextImageScore):
        raise TypeError(f"score: expected a TextImageScore, got {type(score).__name__}")
    if not isinstance(tokens, Tensor):
        raise TypeError(f"tokens: expected token ids (N, L), got {type(tokens).__name__}; use the model's tokenizer first")
    rows = score.readout(tokens)
    if rows is None:
        raise ValueError("score: its text tower averages its tokens, so none can be read in place of another")
    redundant = encode_text(score.model, empty_text(score.model)) if redundancy is None else redundancy
    redundant = F.normalize(redundant.view(1, -1), dim=-1).to(score.image_features)
    shared = score.image_features @ redundant.mT  # (M, 1)
    result = torch.zeros(len(tokens), len(score.image_features), tokens.shape[1], device=score.image_features.device)
    with torch.inference_mode(False), torch.no_grad():
        alone = LayerOutput(score.layers[-1], 1, lambda x: x)
        with alone:
            score(tokens[:1].clone())
        for text, row in enumerate(rows.tolist()):
            copies = tokens[text : text + 1].expand(row + 1, -1).clone()

            def read(x: Tensor, row: int = row) -> Tensor:
                changed = x.clone()
                changed[:, row] = x[0, : row + 1]  # copy j reads token j
                return changed

            with LayerOutput(score.layers[-1], len(copies), read, alone.axis):
                result[text, :, : row + 1] = (score(copies).mT - shared).float()
    return result


def _pool(record: Record) -> Tensor:
    """Value-value attention of a pool's tokens, each the answer to an example of its own; the first is the pool's own."""
    unit = record.value / (record.value.norm(dim=-1, keepdim=True) + 1e-6)
    dense = (8 * record.scale * unit @ unit.mT).softmax(dim=-1) @ record.value
    tokens = torch.cat([model_heads(record.at(0)), dense[:, :, 1:]], dim=2)
    return tokens.transpose(1, 2).flatten(0, 1)[:, :, None]


def _pool_by_value(record: Record) -> Tensor:
    """The same, with the token that the pool reads asking by its value among the values."""
    return _pool(replace(record, query=record.value, key=record.value))
