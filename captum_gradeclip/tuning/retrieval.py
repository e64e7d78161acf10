"""Does a model find the caption of a picture, and the picture of a caption, among all others?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import adapters
from ..adapters.base import execution_device
from ..adapters.tokenizers import Tokenizer, token_ids
from ..arguments import check_number, check_tensor
from ..experiments.data.base import Dataset
from ..metrics import recall
from ..progress import track
from ..scores import ImageScore
from ..scores.base import unit
from ..scores.texts import encode_text


def recalls(cosines: Tensor, owner: Tensor, ks: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
    """How often the best of a query's own results is among the k best, in both directions.

    Args:
        cosines: cosines of I pictures with T captions, ``(I, T)``.
        owner: the picture that each caption belongs to, ``(T,)``; each picture has at least one.
        ks: the numbers k (default 1, 5 and 10).

    Returns:
        Shares from 0 to 1, ``"image to text R@1"`` and so on, then ``"text to image R@1"`` and so on.

    >>> recalls(torch.tensor([[0.9, 0.2], [0.8, 0.1]]), torch.tensor([0, 1]), (1,))
    {'image to text R@1': 0.5, 'text to image R@1': 0.5}
    """
    check_tensor("cosines", cosines, "(I, T)", kind="floats")
    own = owner[None] == torch.arange(len(cosines), device=owner.device)[:, None]
    result = {}
    for name, scores, positives in (("image to text", cosines, own), ("text to image", cosines.T, own.T)):
        for k in ks:
            result[f"{name} R@{k}"] = float(recall(positives, k)(scores, torch.arange(len(scores))).double().mean())
    return result


@torch.no_grad()
def retrieve(
    model: nn.Module,
    data: Dataset,
    tokenizer: Tokenizer,
    *,
    captions: int | None = None,
    batch: int = 64,
    quiet: bool = False,
) -> dict[str, float]:
    """The recall of a model among all pictures and captions of some data.

    Args:
        model: a model of images and texts.
        data: pictures with captions, of :data:`captum_gradeclip.experiments.DATASETS` for instance.
        tokenizer: the model's own tokenizer; captions that are too long are cut by it.
        captions: use only the first so many captions of each picture, at least 1 (default all).
        batch: number of pictures in each pass, at least 1 (default 64).
        quiet: whether no progress is shown (default False).

    Returns:
        What :func:`recalls` returns, with the numbers of ``"images"`` and ``"texts"``.

    Raises:
        DataError: for a picture without captions.

    >>> from captum_gradeclip import scenes
    >>> from captum_gradeclip.experiments import Scenes
    >>> model, _, tokenizer = scenes.load()
    >>> retrieve(model, Scenes(4), tokenizer, captions=1, quiet=True)["texts"]
    4.0
    """
    check_number("batch", batch, whole=True, least=1)
    tower, device, prepare = adapters.text_tower(model), execution_device(model), adapters.preprocessing(model).transform
    score, features = ImageScore(model), []
    texts: list[str] = []
    owner: list[int] = []
    for start in track(range(0, len(data), batch), "reading pictures", disable=quiet):
        inputs = []
        for index in range(start, min(start + batch, len(data))):
            sample = data[index]
            sample.require(["captions"])
            chosen = sample.captions[:captions]
            texts += chosen
            owner += [index] * len(chosen)
            inputs.append(prepare(sample.image))
        features.append(unit(score.features(torch.stack(inputs).to(device))))
    tokens = token_ids(tokenizer, texts, tower, cut=True).to(device)
    cosines = (torch.cat(features) @ encode_text(model, tokens).to(features[0]).T).cpu()
    return {**recalls(cosines, torch.tensor(owner)), "images": float(len(data)), "texts": float(len(texts))}
