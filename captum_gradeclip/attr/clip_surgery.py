"""CLIP Surgery: dense features by value-value attention beside the model, freed of what all texts share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..arguments import check_finite, check_tensor, one_of
from ..attention import Interception, Record, ReplaceOutput, SidePath, model_heads, tokens_as_batch, value_value
from ..former import renamed
from ..scores import ImageTextScore, TextImageScore, empty_text, encode_text
from .base import MethodInfo, NotDefinedError, Options, Request, Targets, TokenAttribution, number
from .dense import Dense, last_block

Redundancy = Literal["empty", "labels", "none"]
Normalization = Literal["channels", "tokens"]
PoolQuery = Literal["query", "value"]
PoolValues = Literal["unit", "plain"]


@dataclass(frozen=True)
class CLIPSurgeryOptions(Options):
    """The options of :class:`CLIPSurgery`.

    Attributes:
        redundancy: what all texts share and is taken off: the ``"empty"`` text (default; a map then does not depend on the
            other texts), the weighted mean over all ``"labels"`` of the score, which should then be many, ``"none"``, or
            features ``(D,)``, ``(1, D)`` or ``(T, D)`` of your own, such as a prompt ensemble of the empty text.
        among: features ``(K, D)`` of further labels, with which each text of the score is compared alone, as with
            ``redundancy="labels"``; ``None`` (default) for the other texts of the score. The released code of Grad-ECLIP has
            59 nouns of scenes for every class.
        temperature: factor on the cosines that weigh the labels, any finite number (default 2); it counts with
            ``redundancy="labels"`` only.
        normalization: whether features become unit vectors over their ``"channels"`` (default), or over the ``"tokens"``
            as in the code that the figures of arXiv 2502.18816 come from.
        pool_query: which projection makes the query of an attention pool's class token: ``"query"`` (default), the model's
            own, or ``"value"``, as in the released code, whose class token is then not the model's. It weighs the labels.
        pool_values: what the value-value attention of a pool compares: ``"unit"`` values at eight times the pool's scale
            (default, which the released code intends), or ``"plain"`` values at its own scale, which that code runs, since
            the switch of its other branch is never set.
        normalisation: the name of ``normalization`` in version 0.1; it goes with the next version.
    """

    redundancy: Redundancy | Tensor = "empty"
    among: Tensor | None = None
    temperature: float = number(2.0)
    normalization: Normalization = "channels"
    pool_query: PoolQuery = "query"
    pool_values: PoolValues = "unit"
    normalisation: Normalization | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalisation is not None:
            renamed("CLIPSurgery(normalisation=)", "CLIPSurgery(normalization=)", stacklevel=4)
            object.__setattr__(self, "normalization", self.normalisation)


def feature_surgery(
    image_features: Tensor,
    text_features: Tensor,
    redundant_features: Tensor | None = None,
    *,
    temperature: float = 2.0,
    normalization: Normalization = "channels",
) -> Tensor:
    r"""Similarity of all tokens with all texts, without the part that does not tell the texts apart.

    .. math:: s_{it} = w_t F_i \cdot T_t - \frac1n \sum_{t'} w_{t'} F_i \cdot T_{t'}, \quad
        w_t = \frac{p_t}{\operatorname{mean}(p)}, \quad p = \operatorname{softmax}(\tau F_0 \cdot T)

    or, with redundant features :math:`E` (of the empty text, say), :math:`s_{it} = F_i \cdot (T_t - E)`.

    Args:
        image_features: features F of all tokens ``(..., L, D)``, the class token first; they become unit vectors here.
        text_features: features T of the texts ``(T, D)``; they become unit vectors here.
        redundant_features: features E that all texts share, ``(D,)``, ``(1, D)`` or ``(T, D)``, which become unit vectors
            here; ``None`` (default) for the weighted mean of the texts.
        temperature: factor on the cosines that weigh the labels, any finite number (default 2).
        normalization: whether F becomes unit vectors over its ``"channels"`` (default), or over its ``"tokens"`` as the
            demo of the released code had it before March 2025.

    Returns:
        Similarities ``(..., L, T)``, signed.

    Raises:
        ValueError: for features that do not fit together or are not finite, fewer than two labels and no redundant
            features, an unknown normalization.

    >>> feature_surgery(torch.eye(2), torch.eye(2), torch.tensor([1.0, 0.0]))
    tensor([[ 0., -1.],
            [ 0.,  1.]])

    Source: Li, Wang, Duan, Li: "CLIP Surgery for Better Explainability with Enhancement in Open-Vocabulary Tasks",
    arXiv 2304.05653.
    """
    one_of("normalization", normalization, Normalization)
    check_finite("image_features", check_tensor("image_features", image_features, kind="floats"))
    if image_features.dim() < 2:
        raise ValueError(f"image_features: expected (..., L, D), got shape {tuple(image_features.shape)}")
    texts, width = check_tensor("text_features", text_features, "(T, D)", kind="floats").shape
    if image_features.shape[-1] != width or not torch.isfinite(text_features).all():
        raise ValueError(
            f"text_features: expected finite features (T, {image_features.shape[-1]}), as wide as image_features, got"
            f" {tuple(text_features.shape)}"
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
    image_features = F.normalize(image_features, dim=-1 if normalization == "channels" else -2)
    text_features = F.normalize(text_features.to(image_features), dim=-1)
    similarity = image_features @ text_features.mT
    if redundant_features is not None:
        return similarity - image_features @ F.normalize(redundant_features.view(-1, image_features.shape[-1]), dim=-1).mT
    weight = (temperature * similarity[..., :1, :]).softmax(dim=-1)
    weighted = weight / weight.mean(dim=-1, keepdim=True) * similarity
    return weighted - weighted.mean(dim=-1, keepdim=True)


class CLIPSurgery(TokenAttribution[CLIPSurgeryOptions, Dense]):
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
            :func:`captum_gradeclip.scores.prompts.prompt_ensemble`.
        layer: the last blocks of the tower, at least one; ``score.layers[-6:]`` are the paper's.
        device_ids: accepted for Captum's sake.

    Maps are signed differences of cosines. ``additional_forward_args`` are refused, since features are looked at and not the
    output of the forward function.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> CLIPSurgery(score, score.layers[-6:]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Li, Wang, Duan, Li: "CLIP Surgery for Better Explainability with Enhancement in Open-Vocabulary Tasks",
    arXiv 2304.05653.
    """

    info = MethodInfo("CLIP Surgery", "Li et al., arXiv 2304.05653", convolutional=True, layers=6)
    Options = CLIPSurgeryOptions

    def observe(self, request: Request, options: CLIPSurgeryOptions) -> Dense:
        """The similarity of all tokens with all texts of the score."""
        if request.arguments is not None:
            raise ValueError(
                "additional_forward_args: CLIP Surgery looks at features and takes none; bind them in the score"
            )
        score = _image_text_score(request)
        texts = score.text_features
        features = _dense_features(request, score, options.pool_query, options.pool_values).to(texts.dtype)
        redundant: Tensor | None = None
        if isinstance(options.redundancy, Tensor):
            redundant = options.redundancy.to(texts)
        elif options.redundancy == "empty":
            try:
                redundant = score.empty_features
            except ValueError as error:
                raise NotDefinedError(str(error)) from error
        elif options.redundancy == "none":
            redundant = texts.new_zeros(1, texts.shape[1])  # stays zero as a unit vector
        settings = {"temperature": options.temperature, "normalization": options.normalization}
        with torch.inference_mode(False), torch.autocast(request.inputs.device.type, enabled=False):
            if options.among is None:
                similarity = feature_surgery(features, texts, redundant, **settings)  # type: ignore[arg-type]
            else:
                similarity = _each_among(features, texts, options)
            own = F.normalize(features[:, 0], dim=-1) @ texts.mT
        return Dense(request, own, request.keys(features.shape[1]), similarity)

    def explain(self, evidence: Dense, targets: Targets, options: CLIPSurgeryOptions) -> Tensor:
        """The similarity of all tokens with the targets."""
        return targets.pick(evidence.scores)

    def dense_features(
        self, inputs: Tensor | tuple[Tensor], pool_query: PoolQuery = "query", pool_values: PoolValues = "unit"
    ) -> Tensor:
        """Features of all tokens ``(N, L, D)``, not normalized: the class token's is the model's own, the rest is dense.

        Args:
            inputs: images ``(N, C, H, W)``.
            pool_query: as in :class:`CLIPSurgeryOptions`; with ``"value"``, the class token is not the model's own.
            pool_values: as there.
        """
        request = self._request(inputs, None, None)
        asked = CLIPSurgeryOptions(pool_query=pool_query, pool_values=pool_values)
        return _dense_features(request, _image_text_score(request), asked.pool_query, asked.pool_values).detach()


def _each_among(features: Tensor, texts: Tensor, options: CLIPSurgeryOptions) -> Tensor:
    """The surgery ``(N, L, T)`` of each text among the further labels, without the other texts."""
    if options.redundancy != "labels" or not isinstance(options.among, Tensor) or options.among.dim() != 2:
        raise ValueError(
            'among: expected features (K, D) of further labels, together with redundancy="labels"; leave it out otherwise'
        )
    labels, settings = options.among.to(texts), {"temperature": options.temperature, "normalization": options.normalization}
    each = [feature_surgery(features, torch.cat([text[None], labels]), **settings)[..., 0] for text in texts]  # type: ignore[arg-type]
    return torch.stack(each, dim=-1)


def _image_text_score(request: Request) -> ImageTextScore:
    if not isinstance(request.score, ImageTextScore):
        raise NotDefinedError(
            "forward_func: CLIP Surgery compares dense features with texts, so it needs an ImageTextScore, got"
            f" {type(request.score).__name__}"
        )
    if type(request.score).forward is not ImageTextScore.forward:
        raise NotDefinedError(
            "forward_func: CLIP Surgery compares features with texts and never calls forward, which"
            f" {type(request.score).__name__} defines anew; use an ImageTextScore"
        )
    return request.score


def _dense_features(request: Request, score: ImageTextScore, pool_query: PoolQuery, pool_values: PoolValues) -> Tensor:
    count, layers, pooled = len(request.inputs), request.layers, request.pools_convolutions
    last = score.layers[-1] if pooled else last_block(request)
    if [id(one) for one in layers] != [id(one) for one in score.layers[-len(layers) :]]:
        raise ValueError("layer: CLIP Surgery needs the last blocks of the image tower in their order, score.layers[-n:]")
    if pooled:
        rule = partial(_pool, by_value=pool_query == "value", plain=pool_values == "plain")
        features = request.forward(Interception(layers, rule, graph=False), function=score.features)
        return features.unflatten(0, (count, -1))  # type: ignore[no-any-return]  # torch annotates few of its methods
    for name, given in (("pool_query", pool_query != "query"), ("pool_values", pool_values != "unit")):
        if given:
            raise ValueError(f"{name}: this tower has no attention pool over convolutions; leave it out")
    axis = request.examples_axis(last)
    beside = SidePath(layers, value_value, count, axis)

    def second_path(tokens: Tensor) -> Tensor:
        stream = beside.inputs[0] + sum(beside.added)
        return tokens_as_batch(torch.cat([tokens[:, :1], stream[:, 1:]], dim=1))

    features = request.forward(beside, ReplaceOutput(last, count, second_path, axis), function=score.features)
    return features.unflatten(0, (count, -1))  # type: ignore[no-any-return]  # torch annotates few of its methods


def word_relevance(score: TextImageScore, tokens: Tensor, redundancy: Tensor | None = None) -> Tensor:
    r"""How well each token of a text matches the image, in the manner of CLIP Surgery; this is *our* construction.

    .. math:: r_j = F_0 \cdot (T_j - T_{empty})

    where :math:`T_j` are the features that the model would have if it read token :math:`j`. The paper announces a
    visualization of words and its code has none, so no figure of the papers belongs to this.

    Args:
        score: cosines with images, of a model whose text tower reads one token.
        tokens: token ids ``(N, L)``.
        redundancy: features ``(D,)`` or ``(1, D)`` in place of those of the empty text (default ``None``).

    Returns:
        ``(N, M, L)`` for the M images of the score, signed; zero behind the end mark.

    >>> from captum_gradeclip import TextImageScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> word_relevance(TextImageScore(model, torch.rand(2, 3, 64, 64)), tokenizer(["a red circle"])).shape
    torch.Size([1, 2, 24])

    Source: ours, after the feature surgery of arXiv 2304.05653.
    """
    if not isinstance(score, TextImageScore):
        raise TypeError(f"score: expected a TextImageScore, got {type(score).__name__}")
    if not isinstance(tokens, Tensor):
        raise TypeError(f"tokens: expected token ids (N, L), got {type(tokens).__name__}; use the model's tokenizer first")
    rows = None if score.readout.rows is None else score.readout.rows(tokens)
    if rows is None:
        raise ValueError("score: its text tower averages its tokens, so none can be read in place of another")
    redundant = encode_text(score.model, empty_text(score.model)) if redundancy is None else redundancy
    redundant = F.normalize(redundant.view(1, -1), dim=-1).to(score.image_features)
    shared = score.image_features @ redundant.mT  # (M, 1)
    result = torch.zeros(len(tokens), len(score.image_features), tokens.shape[1], device=score.image_features.device)
    with torch.inference_mode(False), torch.no_grad():
        alone = ReplaceOutput(score.layers[-1], 1, lambda x: x)
        with alone:
            score(tokens[:1].clone())
        for text, row in enumerate(rows.tolist()):
            copies = tokens[text : text + 1].expand(row + 1, -1).clone()

            def read(x: Tensor, row: int = row) -> Tensor:
                changed = x.clone()
                changed[:, row] = x[0, : row + 1]  # copy j reads token j
                return changed

            with ReplaceOutput(score.layers[-1], len(copies), read, alone.axis):
                result[text, :, : row + 1] = (score(copies).mT - shared).float()
    return result


def _pool(record: Record, by_value: bool, plain: bool) -> Tensor:
    """Value-value attention of a pool's tokens, each the answer to an example of its own; the first is what the pool reads.

    Args:
        record: what the pool was given.
        by_value: whether the token that it reads asks by its value among the values.
        plain: whether the values are compared as they are, at the pool's own scale.
    """
    values = replace(record, query=record.value, key=record.value)
    unit = record.value / (record.value.norm(dim=-1, keepdim=True) + 1e-6)
    dense = model_heads(values if plain else replace(record, query=unit, key=unit, scale=8 * record.scale))
    read = model_heads((values if by_value else record).at(0))
    tokens = torch.cat([read, dense[:, :, 1:]], dim=2)
    return tokens.transpose(1, 2).flatten(0, 1)[:, :, None]
