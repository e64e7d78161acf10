"""Names as the text features of many sentences."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..adapters.tokenizers import Tokenizer
from ..quoting import quoted
from .texts import encode_text, tokenize


def imagenet_templates() -> tuple[str, ...]:
    """The eighty sentences around a class name of OpenAI's zero-shot classifier for ImageNet.

    Returns:
        Sentences with ``{}`` in the place of the name.

    >>> len(imagenet_templates()), imagenet_templates()[0]
    (80, 'a bad photo of a {}.')
    """
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def prompt_ensemble(
    model: nn.Module, tokenizer: Tokenizer | None, names: str | Sequence[str], templates: str | Sequence[str]
) -> Tensor:
    r"""One feature vector per name: the mean direction of the sentences with it.

    .. math:: T = \frac{\sum_k t_k}{|\sum_k t_k|}, \quad t_k = \frac{g(s_k)}{|g(s_k)|}

    Args:
        model: a model with a text encoder that an adapter knows.
        tokenizer: the model's own tokenizer.
        names: one name or T names; an empty string is allowed.
        templates: one sentence or several, each with ``{}`` in the place of the name.

    Returns:
        Unit vectors ``(T, D)``, to be given to :class:`~captum_gradeclip.ImageTextScore` as ``text``.

    Raises:
        ValueError: for no names or templates, or a template without a place for the name.

    >>> from captum_gradeclip import scenes
    >>> model, _, tokenizer = scenes.load()
    >>> prompt_ensemble(model, tokenizer, ["circle", "star"], ["a {}", "something with a {}"]).shape
    torch.Size([2, 128])
    """
    names = [names] if isinstance(names, str) else names
    templates = [templates] if isinstance(templates, str) else templates
    if not names or not templates:
        raise ValueError(f"names, templates: expected at least one of each, got {len(names)} and {len(templates)}")
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"templates: expected '{{}}' in the place of the name, got {quoted(template)}")
    features = []
    for name in names:
        sentences = [template.replace("{}", name) for template in templates]
        features.append(encode_text(model, tokenize(model, sentences, tokenizer)).mean(dim=0))
    return F.normalize(torch.stack(features), dim=-1)
