"""Word and region: how much each word and each patch contribute to the score together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..adapters import text_tower
from ..adapters.base import up_to
from ..adapters.tokenizers import Tokenizer
from ..arguments import check_tensor
from ..attention import Interception, Record, model_heads, one_call, single_head
from ..options import Options, number
from ..scores import ImageTextScore, Targets, TextImageScore, tokenize
from ..scores.checks import check_inputs, check_maps
from ..scores.targets import tangents
from .base import Attention, Request
from .grad_eclip import GradECLIP, GradECLIPOptions, Heads, SpatialWeight, weighing

ImageWeight = Literal["both", "softmax", "loosened", "none"]


@dataclass(frozen=True)
class WordRegionOptions(Options):
    """The options of :class:`WordRegionAttribution`: how the two sides of a pair are read.

    The defaults are those that point best at the things that words mean, on validation scenes of the embedded model.

    Attributes:
        text_weight: the spatial weight of the words, as :class:`~captum_gradeclip.GradECLIP` has it: ``"softmax"`` (default,
            the attention weights of each of the model's own heads), or ``"loosened"`` or ``"none"`` with one head.
        image_weight: the same of the patches; or ``"both"`` (default), the mean of ``"softmax"`` and ``"loosened"``, the
            latter brought to the root mean square of the former over the words and patches of each image. It takes a second
            pass of the images, or of one token behind the last attention where one is read.
        neighbors: how much of the words that a word is bound to counts as its own, at least 0 (default 1.5); see
            :func:`binding`. With 0 a word stands for itself alone, and the values add up as the class says.
    """

    text_weight: SpatialWeight = "softmax"
    image_weight: ImageWeight = "both"
    neighbors: float = number(1.5, least=0)


class WordRegionAttribution:
    r"""Which word of a caption goes with which region of an image: one signed value for each pair of a word and a patch.

    .. math:: M_{ip} = \Big\langle \sum_l J^l_g u^l_i, \; J_f u_p \Big\rangle, \quad
        u_i = \lambda_i v_i, \quad J = \frac{\partial \hat f}{\partial o}

    for the unit features :math:`\hat f` of the image and :math:`\hat g` of the text, whose product is the cosine, and for
    the weighed values :math:`u` of the tokens that the attention outputs :math:`o` are made of. What a word contributes to
    the features of the text, a direction :math:`b_i`, is explained in the image, as Grad-ECLIP explains a prompt. It is
    linear in both sides; without neighbors and with one weight of the image its sum over the words is the image's map of
    :math:`\sum_i b_i`.

    In "a red circle and a blue circle" either "circle" contributes nearly the same direction, so that it could mean both.
    What it is bound to tells which: to each word's direction those of its neighbors in the tower's own attention are added,
    see :func:`binding`, which takes no parser.

    It takes one pass of each tower. The directions of all words are found by two passes backward, however many features the
    model has (see :func:`~captum_gradeclip.scores.targets.tangents`), along the one token that is read where the tower of
    texts is causal; those of the image run along its class token alone where it is the one that is read.

    Args:
        model: a model with an image and a text encoder that an adapter knows; used as it is and never changed.
        tokenizer: the model's own tokenizer, or the processor of transformers that holds it, needed for captions as strings
            only (default ``None``).

    Raises:
        UnsupportedModelError: if no adapter knows the model, or it has no text encoder.

    >>> from captum_gradeclip import WordRegionAttribution, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> image = preprocess(scenes.SceneDataset(1, "evaluation")[0].image)[None]
    >>> WordRegionAttribution(model, tokenizer).attribute(image, "a red circle").shape
    torch.Size([1, 24, 12, 12])

    Source: this package; the bilinear form is that of Moeller, Nikolaev, Padó: "Explaining Caption-Image Interactions in
    CLIP Models with Second-Order Attributions", TMLR 2025, with the factors of Grad-ECLIP, arXiv 2502.18816, equation 19.
    """

    Options = WordRegionOptions

    def __init__(self, model: nn.Module, tokenizer: Tokenizer | None = None) -> None:
        self.model, self.tokenizer = model, tokenizer
        # The cosines of a text with the D axes are its unit features.
        self._features = TextImageScore(model, torch.eye(text_tower(model).width))

    @one_call
    def attribute(
        self, images: Tensor, tokens: Tensor | str | Sequence[str], *, max_memory: int = 2**28, **options: object
    ) -> Tensor:
        """The tensor of words and regions of each image with its own caption.

        Args:
            images: N images ``(N, C, H, W)``, floating point, as the model takes them.
            tokens: their captions as token ids ``(N, L)``, integer, or as N strings, which need the tokenizer.
            max_memory: largest number of bytes, estimated, of the gradients that are computed at once (default 2**28, which
                is 256 MiB); a smaller number takes more passes and gives the same values.
            options: the fields of :class:`WordRegionOptions`.

        Returns:
            ``(N, L, h, w)``, float32, signed and finite, on the patch grid: positive where a word and a patch together raise
            the cosine. Marks of a text have values as well, padding that the model never sees has 0.

        Raises:
            TypeError: for strings without a tokenizer, or arguments of another kind.
            ValueError: for inputs that are not finite or have another shape, captions that are not one for each image, or
                options out of range.
        """
        chosen = WordRegionOptions(**options)  # type: ignore[arg-type]
        directions = self.directions(tokens, max_memory=max_memory, **options)
        return self.regions(images, directions, image_weight=chosen.image_weight, max_memory=max_memory)

    @one_call
    def regions(
        self, images: Tensor, directions: Tensor, *, image_weight: ImageWeight = "both", max_memory: int = 2**28
    ) -> Tensor:
        """The signed maps of directions, such as those of words or the features of whole texts.

        Args:
            images: N images ``(N, C, H, W)``.
            directions: ``(N, L, D)`` of any length, finite: L for each image, its own ones.
            image_weight: as for :class:`WordRegionOptions`.
            max_memory: as for :meth:`attribute`.

        Returns:
            ``(N, L, h, w)``, float32, linear in the directions of an image, but for the one factor of ``"both"``.

        Raises:
            TypeError, ValueError: as :meth:`attribute`.
        """
        weight = WordRegionOptions(image_weight=image_weight).image_weight
        weights: tuple[SpatialWeight, ...] = ("softmax", "loosened") if weight == "both" else (weight,)
        check_tensor("directions", directions, f"(N, L, {self._features.tower.width})", kind="floats")
        check_tensor("images", images, "(N, C, H, W)", kind="floats", examples=("tokens", len(directions)))
        found, *others = self._signed(images, directions, weights, max_memory)
        for other in others:
            found = (found + other * (_size(found) / _size(other).clamp(min=torch.finfo(other.dtype).tiny))) / 2
        check_maps(found)
        return found

    def _signed(self, images: Tensor, directions: Tensor, weights: Sequence[SpatialWeight], max_memory: int) -> list[Tensor]:
        """The signed maps ``(N, L, h, w)`` of directions, for each of some spatial weights."""
        count, words = directions.shape[:2]
        length = directions.norm(dim=-1, keepdim=True)
        # What stands behind the words of all captions has no direction, and needs no gradient.
        known = length.gt(0).any(dim=0).flatten().nonzero()
        front = up_to(known) if len(known) else 1
        strongest = directions.take_along_dim(length.argmax(dim=1, keepdim=True), dim=1)
        # Padding among them has no direction either; that of another word stands in, and is weighed by 0.
        score = ImageTextScore(self.model, torch.where(length > 0, directions, strongest)[:, :front].flatten(0, 1))
        method, columns = GradECLIP.for_score(score), torch.arange(count * front).view(count, front)
        request = Request(method.info, score, score, method.default_layers(score), check_inputs(images))
        length = F.pad(length[:, :front, :, None], (0, 0, 0, 0, 0, words - front))
        found = []
        for weight, evidence in zip(weights, request.readings([_RULES[_heads(weight)] for weight in weights])):
            asked = Targets.columns(columns, evidence.output)
            with torch.inference_mode(False), torch.no_grad():
                parts = asked.split(evidence.fit(max_memory, front))
                effects = torch.cat([method.effects(evidence, part, _reading(weight))[:, 0] for part in parts])
                maps = evidence.tokens.fold(effects).transpose(0, 1).float()
                # The score knows unit vectors only.
                found.append(F.pad(maps, (0, 0, 0, 0, 0, words - front)) * length)
        return found

    @one_call
    def directions(self, tokens: Tensor | str | Sequence[str], *, max_memory: int = 2**28, **options: object) -> Tensor:
        """What each word of a caption contributes to the unit features of the text.

        Args:
            tokens: captions as token ids ``(N, L)``, or as N strings.
            max_memory: as for :meth:`attribute`.
            options: as for :meth:`attribute`.

        Returns:
            ``(N, L, D)`` in the unit of the features.

        Raises:
            TypeError, ValueError: as :meth:`attribute`.
        """
        chosen = WordRegionOptions(**options)  # type: ignore[arg-type]
        reading = _reading(chosen.text_weight)
        evidence = self._read(self._ids(tokens), reading)
        with torch.no_grad():
            content = evidence.tokens.content
            words = [_word_values(record, self._row(record, evidence), content, reading) for record in evidence.records]
            parts = zip(*(one.split(evidence.fit(max_memory, len(one))) for one in words))
            found = torch.cat([tangents(evidence.output, evidence.at, part) for part in parts]).transpose(0, 1)
            if chosen.neighbors:
                padding = ~found.any(dim=-1)  # what the tower never sees
                found = found + chosen.neighbors * self._bonds(evidence, padding).to(found) @ found
        directions: Tensor = F.pad(found, (0, 0, 0, evidence.tokens.left_out))
        return directions

    def _ids(self, tokens: Tensor | str | Sequence[str]) -> Tensor:
        """Captions as token ids ``(N, L)``."""
        if not isinstance(tokens, Tensor):
            return tokenize(self.model, tokens, self.tokenizer)
        return check_inputs(check_tensor("tokens", tokens, "(N, L)", kind="integers"))

    def _read(self, tokens: Tensor, reading: GradECLIPOptions) -> Attention:
        """One pass of captions, whose unit features have a graph that is differentiated twice."""
        method = GradECLIP.for_score(self._features)
        layers = method.default_layers(self._features)
        return method.observe(
            Request(method.info, self._features, self._features, layers, tokens, second_order=True), reading
        )

    def _bonds(self, evidence: Attention, marks: Tensor) -> Tensor:
        """How strongly the words of each caption are bound to each other, ``(N, L, L)``; ``marks`` are no words."""
        request, tower = evidence.request, self._features.tower
        layer, tokens = self._features.layers[0], request.inputs

        def stop(record: Record) -> Tensor:
            raise _Seen(record)

        try:
            request.forward(Interception([layer], stop, graph=False))
        except _Seen as seen:
            attention = seen.record.probabilities()[..., evidence.tokens.content, evidence.tokens.content]
        for mark in (tower.start, tower.end):
            marks = marks | (tokens == (-1 if mark is None else mark))
        rows = tower.readout.rows
        if rows is not None:
            marks = marks | (torch.arange(tokens.shape[1], device=tokens.device) == rows(tokens)[:, None])
        return binding(attention, marks)

    def _row(self, record: Record, evidence: Attention) -> Tensor | None:
        """Which of the rows that a layer answered is read, ``(N,)``; ``None`` where several are."""
        rows = self._features.readout.rows
        if rows is None:
            return None
        inputs = evidence.request.inputs
        return rows(inputs) if record.query.shape[-2] > 1 else torch.zeros(len(inputs), dtype=torch.long)


def binding(attention: Tensor, marks: Tensor) -> Tensor:
    r"""How strongly words are bound to each other, in the attention of a tower's first layer.

    .. math:: B_{ij} = \max_h \alpha^h_{ij} + \max_h \alpha^h_{ji}, \quad B_{ii} = 0

    There words have not mixed yet, so that a word attends to what stands with it, an adjective for a noun. In a causal tower
    only the later of two words attends, which is why both ways count. Marks and padding are no words and bound to nothing.

    Args:
        attention: attention weights of all heads ``(N, heads, L, L)``.
        marks: which tokens are no words, ``(N, L)``, boolean.

    Returns:
        ``(N, L, L)``, symmetric, between 0 and 2.

    >>> attention = torch.tensor([[[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.5, 0.25]]]])
    >>> binding(attention, torch.tensor([[True, False, False]]))
    tensor([[[0.0000, 0.0000, 0.0000],
             [0.0000, 0.0000, 0.5000],
             [0.0000, 0.5000, 0.0000]]])
    """
    most = attention.amax(dim=1)
    alone = marks[:, None] | marks[..., None] | torch.eye(marks.shape[1], dtype=torch.bool, device=marks.device)
    return (most + most.mT).masked_fill(alone, 0.0)


class _Seen(Exception):
    """Leaves a forward pass of which the first attention has been seen."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record


def _size(tensor: Tensor) -> Tensor:
    """The root mean square over the words and patches of each image, ``(N, 1, 1, 1)``."""
    return tensor.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


_RULES = {"single": single_head, "model": model_heads}


def _reading(weight: SpatialWeight) -> GradECLIPOptions:
    """Grad-ECLIP with a spatial weight and the heads that belong to it, signed."""
    return GradECLIPOptions(spatial_weight=weight, heads=_heads(weight), relu_attributions=False)


def _heads(weight: SpatialWeight) -> Heads:
    """Attention weights are those of each of the model's own heads; other weights belong to one head over all channels."""
    return "model" if weight == "softmax" else "single"


def _word_values(record: Record, row: Tensor | None, content: slice, reading: GradECLIPOptions) -> Tensor:
    """What each word puts into the output of a layer's attention, in the rows that are read, ``(L, N, Lq, C)``."""
    spatial, value = weighing(record, row, content, reading)
    (count, heads, length, width), answered = value.shape, record.query.shape[-2]
    read = answered if row is None else 1
    weights = torch.as_tensor(spatial, dtype=value.dtype, device=value.device).expand(count, heads, read, length)
    words = (weights[..., None] * value[:, :, None])[..., content, :].permute(3, 0, 2, 1, 4).flatten(-2)
    if row is None or answered == 1:
        return words
    index = row.to(words.device)[None, :, None, None].expand_as(words)
    return words.new_zeros(len(words), count, answered, heads * width).scatter(2, index, words)
