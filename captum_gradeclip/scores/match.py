"""How well images match texts by a head that sees both at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..adapters import ImageTower
from ..adapters.base import execution_device
from ..adapters.matching import Matching, matching
from ..adapters.tokenizers import Tokenizer
from ..arguments import check_tensor
from .base import ModelScore, Tokens
from .checks import check_ids
from .image_text import ImageScore
from .texts import tokenize


class MatchScore(ImageScore):
    """Logits of "match" of an image-text matching head: explain *images*, ``target`` is the text's index.

    The head of BLIP and BLIP-2 reads text whose tokens, or queries that were learned, attend to all patches; that of ViLT
    reads one stream of words and patches. No class token stands between a patch and the score, so that all queries count,
    each weighed by its own gradient: our extension of Grad-ECLIP, which its paper excludes.

    The two kinds of tokens meet in each text's own pass, so that the maps of T texts take T passes.

    Args:
        model: a model of transformers with a matching head, ``BlipForImageTextRetrieval``, ``Blip2ForImageTextRetrieval`` or
            ``ViltForImageAndTextRetrieval``; used as it is and never changed.
        text: texts as token ids ``(T, L)``, or as strings together with ``tokenizer``.
        tokenizer: tokenizer or processor of transformers, needed for strings only (default ``None``).

    Raises:
        TypeError: for strings without a tokenizer, or a text of another kind.
        ValueError: for an empty text, or one longer than the model's context.
        UnsupportedModelError: if the model has no matching head that is known.

    >>> from transformers import BlipConfig, BlipForImageTextRetrieval
    >>> from captum_gradeclip import GradECLIP
    >>> small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> config = BlipConfig(
    ...     vision_config={**small, "image_size": 32, "patch_size": 8}, text_config={**small, "encoder_hidden_size": 16}
    ... )
    >>> score = MatchScore(BlipForImageTextRetrieval(config).eval(), torch.tensor([[2, 7, 9, 3]]))
    >>> images = torch.zeros(2, 3, 32, 32)
    >>> score(images).shape, GradECLIP(score, score.layers[-1]).attribute(images, target=0).shape
    (torch.Size([2, 1]), torch.Size([2, 1, 4, 4]))
    """

    text_tokens: Tensor

    def __init__(self, model: nn.Module, text: Tensor | str | Sequence[str], tokenizer: Tokenizer | None = None) -> None:
        facts = matching(model).text
        ModelScore.__init__(self, model)  # there are no features of images alone
        if isinstance(text, Tensor):
            tokens = check_tensor("text", text, "(T, L)", kind="integers").to(execution_device(model))
        else:
            tokens = tokenize(model, text, tokenizer, tower=facts)
        check_ids("text", tokens, facts.vocabulary)
        if not tokens.numel() or tokens.shape[1] > facts.context_length:
            raise ValueError(
                f"text: expected at least one text of 1 to {facts.context_length} tokens, got shape {tuple(tokens.shape)}"
            )
        self.register_buffer("text_tokens", tokens)
        self._own = False

    @property
    def facts(self) -> Matching:
        """What the adapter states of the model."""
        return matching(self.model)

    @property
    def tower(self) -> ImageTower:
        """The facts of the images; the sites are the attentions whose keys are patches."""
        return self.facts.image

    @property
    def columns(self) -> int | None:
        """Number of texts, each of which takes a pass of its own; ``None`` where each image has one."""
        return None if self._own or len(self.text_tokens) == 1 else len(self.text_tokens)

    def aligned(self, index: Tensor) -> MatchScore:
        """The score of each image with one text alone, ``(N, 1)``.

        Args:
            index: the index of the text of each image, ``(N,)``.
        """
        same = bool((index == index[0]).all())
        score = MatchScore(self.model, self.text_tokens[index[:1] if same else index])
        score._own = True
        return score

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` of the native size, or a multiple of the patch where the model takes it, to ``(N, T)``."""
        facts, count = self.facts, len(images)
        images, tokens = images.to(facts.image.dtype), self.text_tokens
        if self._own:
            if len(tokens) not in (1, count):
                raise ValueError(f"inputs: expected {len(tokens)} images, each with its own text, got {count}")
            return facts.match(images, tokens.expand(count, -1))[:, None]
        return torch.stack([facts.match(images, one.expand(count, -1)) for one in tokens], dim=1)

    def tokens(self, site: object, inputs: Tensor, rows: int) -> tuple[Tokens | None, Tokens]:
        """What the queries (``None`` for learned ones) and the keys of a site stand for; see :meth:`Score.tokens`."""
        keys, words = self._keys(inputs, rows), Tokens("words", (self.text_tokens.shape[1],))
        return (words if self.facts.words else None), keys
