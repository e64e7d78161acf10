"""The whole road in one call: from pictures and texts to an explanation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from . import adapters
from .adapters.base import Foreign, execution_device
from .adapters.loading import find_device
from .attr import Method, NotDefinedError, Outcome, TokenAttribution, find_method
from .attr.registry import AnyMethod, Kind
from .images import Picture, Resize, prepare, read, to_rgb
from .maps import Frame, Words, merge_words, to_pixels
from .notices import kept_notices, notice
from .scores import ClassScore, ImageTextScore, ModelScore, TextImageScore, Tokenizer, tokenize

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

T = TypeVar("T")
Array: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"
Source: TypeAlias = "Image.Image | str | os.PathLike[str] | Array | Tensor"
"""One picture: a PIL image, a path, an array ``(H, W, 3)`` of uint8, or a prepared tensor ``(3, H, W)``."""
Images: TypeAlias = "Source | Iterable[Source]"
Preprocess: TypeAlias = "Resize | Callable[[Image.Image], Tensor | Picture] | None"
"""How a picture becomes the input of a model, see :func:`explain`."""


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What :func:`explain` found out about N images and T texts (or T classes of a classifier).

    Attributes:
        maps: one map for each image and text, ``(N, T, h, w)`` float32, on the patch grid or in pixels of the input, as
            the method gives them; a list of N tensors ``(T, h, w)`` where the grids of the images differ.
        words: ``words[n][t]`` is the text t as ``[(word, weight), ...]`` in reading order, explained for image n, with
            the weights as the method gives them; ``None`` without texts, for a method that does not explain texts, or if
            no words were asked for.
        scores: scores of the unmodified model ``(N, T)``: cosines, or logits of a classifier; ``None`` if they were not
            asked for.
        explained_scores: scores ``(N, T)`` of the image pass that was explained, which is not quite the model's own where
            the method changes the model (Grad-ECLIP with one head); ``None`` for a method that has no such pass.
        explained_word_scores: the same of the text pass; ``None`` without words.
        texts: the T texts, or names of classes.
        method: the id of the method, its class name.
        options: the options that the method was given, by name, and how many of the last ``layers`` and ``text_layers``
            were explained.
        warnings: what the package warned of during the computation.
        pictures: the N images as they were given, and the inputs that the model saw of them.
        names: the N names of the images: that of the file, or ``"image 0"`` and so on.
        targets: the T indices of the classes of a classifier; ``None`` for texts.
        probabilities: softmax of a classifier's logits over all its classes ``(N, T)``; ``None`` for texts, and without
            scores.
        token_weights: the weights of all tokens ``(N, T, L)``, from which ``words`` were merged; ``None`` without words.
    """

    maps: Tensor | list[Tensor]
    words: Sequence[Sequence[Words]] | None
    scores: Tensor | None
    explained_scores: Tensor | None
    explained_word_scores: Tensor | None
    texts: list[str]
    method: str
    options: Mapping[str, object]
    warnings: list[str]
    pictures: list[Picture]
    names: list[str]
    targets: list[int] | None = None
    probabilities: Tensor | None = None
    token_weights: Tensor | None = None

    def __len__(self) -> int:
        """The number N of images."""
        return len(self.pictures)

    def __repr__(self) -> str:
        warned = f", {len(self.warnings)} warnings" if self.warnings else ""
        return f"Explanation({len(self)} images, {len(self.texts)} texts, method={self.method!r}{warned})"

    def pixels(self, i: int) -> Tensor:
        """The maps of one image at the size of that image as it was given.

        Args:
            i: the number of the image, from 0 to N - 1; negative numbers count from the end.

        Returns:
            ``(T, H, W)`` float32, bilinear; NaN where the model saw nothing of the image.

        Raises:
            IndexError: if there is no such image.
        """
        return on_picture(self.maps[i], self.pictures[i].frame)

    def plot(self) -> Figure:
        """A figure with one row for each image: the image, and beside it an overlay for each text, its words below.

        Returns:
            A figure of matplotlib that belongs to no window; ``figure.savefig`` writes it, and a notebook shows it.
        """
        from .report import figure

        return figure(self)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes pictures, maps and numbers, see :func:`captum_gradeclip.report.save`.

        Args:
            folder: it is made if it is not there. The files of one image lie in it directly, those of several images in
                a folder inside it for each.

        Raises:
            OSError: if a file cannot be written; what lay in the folder before is then still there.
        """
        from .report import save

        save(self, Path(folder))

    def to_pandas(self) -> pandas.DataFrame:
        """A table with one row for each image and text, or for each image, text and word if there are words.

        Returns:
            A data frame with the columns ``image`` (the name) and ``text``, then as far as they are known ``target``,
            ``score``, ``probability`` and ``explained_score``, and with words ``explained_word_score``, ``position``
            (of the word in its text, from 0), ``word`` and ``weight``.

        Raises:
            ModuleNotFoundError: if pandas is not installed; nothing else in this package needs it.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_pandas needs pandas; pip install pandas", name=error.name) from None
        columns = {
            "score": self.scores,
            "probability": self.probabilities,
            "explained_score": self.explained_scores,
            "explained_word_score": self.explained_word_scores,
        }
        rows: list[dict[str, object]] = []
        for n, name in enumerate(self.names):
            for t, text in enumerate(self.texts):
                row: dict[str, object] = {"image": name, "text": text}
                row |= {} if self.targets is None else {"target": self.targets[t]}
                row |= {column: float(values[n, t]) for column, values in columns.items() if values is not None}
                if self.words is None:
                    rows.append(row)
                else:
                    words = enumerate(self.words[n][t])
                    rows += [{**row, "position": k, "word": word, "weight": weight} for k, (word, weight) in words]
        return pandas.DataFrame(rows)

    def _repr_html_(self) -> str:
        """What a notebook shows, see :func:`captum_gradeclip.report.html`."""
        from .report import html

        return html(self)


def explain(
    model: nn.Module,
    images: Images,
    texts: str | Sequence[str] | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    preprocess: Preprocess = None,
    method: str | Kind = "GradECLIP",
    targets: int | str | Sequence[int | str] | None = None,
    device: str | torch.device | None = None,
    words: bool = True,
    scores: bool = True,
    layers: int | None = None,
    text_layers: int | None = None,
    **options: object,
) -> Explanation:
    """Explains which parts of some images, and which words of some texts, made them match.

    The image tower and the text tower run twice each at most (images of different sizes make a group for each size): once
    as they are, for the features, and once for the pass that is explained.

    Args:
        model: a model of images and texts, or an image classifier, that an adapter knows; used as it is and never changed.
        images: a PIL image, the path of a file, an array ``(H, W, 3)`` of uint8, a tensor ``(3, H, W)`` or
            ``(N, 3, H, W)``, floating point, or a list of these, which may have different sizes. A tensor is taken as it
            is, prepared for the model already; its maps then lie on the tensor's own pixels.
        texts: a text, or a list of texts, that each image is compared with; ``None`` (default) for a classifier.
        tokenizer: the model's tokenizer, of open_clip or transformers; needed with texts.
        preprocess: how a picture becomes an input of the model. ``None`` (default) and ``"crop"`` resize the short side
            to the model's size and cut out the center, as CLIP itself does; ``"squash"`` resizes to the model's size
            whatever the aspect; ``"keep"`` keeps size and aspect, up to the nearest multiples of the patch. All of these
            normalize with the mean and standard deviation that the model's library states. A callable takes the PIL image
            instead: a transform of open_clip or torchvision, which returns a tensor ``(3, H, W)`` and is assumed to show
            the largest centered box of the picture with the tensor's aspect, as a center crop does; or a function that
            returns a :class:`captum_gradeclip.images.Picture`, which says itself where its input lies.
        method: the name of a method in any spelling, or its class (default ``"GradECLIP"``).
        targets: the classes of a classifier to explain, by index, by name, or by a part of a name that only one class
            has, the same for all images; ``None`` (default) for the three that are most probable on average.
        device: where to compute, to which the model is moved as by ``model.to(device)``; ``None`` (default) for where the
            model lies.
        words: whether to explain the words of the texts as well (default true).
        scores: whether to keep the scores of the unmodified model (default true). Without words and without scores, the
            image tower runs once only.
        layers: how many of the last attention layers of the image tower to explain, from 1 to all of them; ``None``
            (default) for those that the method is meant for.
        text_layers: the same for the text tower.
        options: options of the method, ``heads="model"`` for instance; they hold for images and texts.

    Returns:
        The explanation, on the CPU.

    Raises:
        FileNotFoundError: for a path without a file.
        TypeError: for images, texts or options of another kind, texts without a tokenizer, or a model without adapter
            (:class:`~captum_gradeclip.adapters.UnsupportedModelError`).
        ValueError: for anything else that does not fit; the message begins with the name of the argument. A method that
            is not defined for the model or its images raises :class:`~captum_gradeclip.attr.NotDefinedError`, which is
            one; where it is not defined for the texts only, ``warnings`` says so and there are no words.

    >>> from captum_gradeclip import explain, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> image = scenes.SceneDataset(1, "evaluation")[0].image
    >>> found = explain(model, image, ["a red circle", "something green"], tokenizer)
    >>> found.maps.shape, found.scores.shape, [word for word, weight in found.words[0][0]]
    (torch.Size([1, 2, 8, 8]), torch.Size([1, 2]), ['a', 'red', 'circle'])
    """
    tower = adapters.image_tower(model)
    if isinstance(method, Method):
        raise TypeError(
            f"method: expected a name or a class, got an object of {type(method).__name__}; choose its layers by layers"
        )
    if options.get("heads") == "each":
        raise ValueError('heads: "each" gives several maps for each image and text; call the method itself for these')
    if device is not None:
        model = model.to(find_device(device))
    with kept_notices() as noticed:
        names, pictures = _read(images, tower, preprocess)
        job = _Job(model, find_method(method), names, pictures, layers, text_layers, options)
        if is_classifier(model):
            if texts is not None:
                raise ValueError(f"texts: {job.model_name} is a classifier without a text encoder; name classes by targets")
            explanation = _explain_classes(job, targets, scores, tower.width)
        elif targets is not None:
            raise ValueError(f"targets: {job.model_name} is no classifier; it compares images with texts")
        else:
            several = [texts] if isinstance(texts, str) else list(texts or [])
            if not several:
                raise ValueError(f"texts: {job.model_name} compares images with texts; give at least one text")
            explanation = _explain_texts(job, several, tokenizer, words, scores)
    return replace(explanation, warnings=noticed)


def is_classifier(model: nn.Module) -> bool:
    """Whether a model has an image tower only, as far as its adapter knows.

    Raises:
        UnsupportedModelError: if no adapter knows the model.
    """
    adapters.image_tower(model)
    try:
        adapters.text_tower(model)
    except adapters.UnsupportedModelError:
        return True
    return False


def on_picture(maps: Tensor, frame: Frame) -> Tensor:
    """Maps of the model's input as maps of the picture: bilinear, and NaN where the model saw nothing of it.

    Args:
        maps: ``(T, h, w)`` on the patch grid, or at any resolution of the input.
        frame: where the input lies in the picture.

    Returns:
        ``(T, height, width)`` of the picture.

    >>> on_picture(torch.ones(1, 2, 2), Frame.crop((6, 2)))[0, 0]
    tensor([nan, nan, 1., 1., nan, nan])
    """
    seen = to_pixels(torch.ones(1, 1, 1), frame)[0] > 0
    return to_pixels(maps, frame).masked_fill(~seen, torch.nan)


def find_class(target: int | str, count: int, labels: Sequence[str] | None) -> int:
    """The index of a class that is given by its index or by its name.

    Args:
        target: an index from 0 to ``count - 1``, also as a string of digits; or a name; or a part of one that no other
            class has. Upper and lower case are the same, and of a name like ``"tabby, tabby cat"`` each half will do.
        count: the number of classes.
        labels: the names of the classes in order, or ``None`` if the model does not carry them.

    Raises:
        ValueError: if there is no such class, or if several are called so.

    >>> find_class("whippet", 3, ["tabby cat", "whippet", "Italian greyhound"]), find_class("2", 3, None)
    (1, 2)
    """
    if not isinstance(target, (str, Integral)) or isinstance(target, bool):
        raise TypeError(f"targets: expected the index or the name of a class, got {target!r}")
    if not isinstance(target, str) or target.lstrip("-").isdigit():
        if not 0 <= int(target) < count:
            raise ValueError(f"targets: expected a class from 0 to {count - 1}, got {target}")
        return int(target)
    if labels is None:
        raise ValueError(f"targets: this model does not name its classes; give an index from 0 to {count - 1}")
    wanted = target.lower()
    exact = [n for n, label in enumerate(labels) if wanted in [part.strip().lower() for part in label.split(",")]]
    found = exact or [n for n, label in enumerate(labels) if wanted in label.lower()]
    if len(found) != 1:
        several = "; ".join(f"{n}: {labels[n]}" for n in found[:8])
        raise ValueError(f"targets: {len(found)} classes are called {target!r}{': ' if found else ''}{several}")
    return found[0]


@dataclass(frozen=True)
class _Job:
    """What is to be explained, and how."""

    model: nn.Module
    kind: Kind
    names: list[str]
    pictures: list[Picture]
    layers: int | None
    text_layers: int | None
    options: Mapping[str, Foreign]

    @property
    def model_name(self) -> str:
        return type(self.model).__name__

    def each_size(self, function: Callable[[Tensor], T]) -> list[tuple[list[int], T]]:
        """What a function returns for the inputs ``(n, 3, H, W)`` of each size, beside the numbers of their images."""
        device = execution_device(self.model)
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, picture in enumerate(self.pictures):
            groups.setdefault(tuple(picture.pixels.shape), []).append(number)
        stacked = ((some, torch.cat([self.pictures[n].pixels for n in some])) for some in groups.values())
        return [(some, function(pixels.to(device))) for some, pixels in stacked]

    def explainer(self, score: ModelScore, name: str, count: int | None) -> AnyMethod:
        """The method on the last layers of a score, as many as were asked for by an argument of this name."""
        if count is None:
            return self.kind.for_score(score)
        if not issubclass(self.kind, TokenAttribution):
            raise ValueError(f"{name}: {self.kind.info.name} looks at no layers; leave this argument out")
        if not 1 <= count <= len(score.layers):
            raise ValueError(
                f"{name}: expected 1 to {len(score.layers)}, the number of attention layers of this tower, got {count}"
            )
        return self.kind(score, score.layers[-count:])

    def explain_images(
        self, score: ModelScore, targets: list[int] | None = None
    ) -> tuple[Tensor | list[Tensor], Tensor | None, dict[str, object]]:
        """Maps of all images, the scores that were explained, and the options of the explanation."""
        explainer = self.explainer(score, "layers", self.layers)
        outcomes = self.each_size(lambda pixels: explainer.outcome(pixels, targets, **self.options))
        maps = _in_order([(some, _maps(outcome, 4)) for some, outcome in outcomes])
        explained = [(some, one.explained_scores) for some, one in outcomes if one.explained_scores is not None]
        first = outcomes[0][1]
        return (
            torch.stack(maps) if len({one.shape for one in maps}) == 1 else maps,
            torch.stack(_in_order(explained)) if explained else None,
            {"layers": _count(explainer), "text_layers": None, **first.options},
        )


def _explain_texts(job: _Job, texts: list[str], tokenizer: Tokenizer | None, words: bool, scores: bool) -> Explanation:
    tokens = tokenize(job.model, texts, tokenizer)
    image_score = ImageTextScore(job.model, tokens, tokenizer)
    cosines = features = word_weights = word_scores = captions = None
    if words or scores:
        encoded = job.each_size(lambda pixels: TextImageScore(job.model, pixels).image_features)
        features = torch.stack(_in_order(encoded))
    if features is not None and scores:
        # In double precision, which autocast leaves alone.
        cosines = (features.double() @ image_score.text_features.detach().cpu().double().T).float()
    maps, explained, options = job.explain_images(image_score)
    if features is not None and words and job.kind.info.text:
        explainer = job.explainer(TextImageScore(job.model, features), "text_layers", job.text_layers)
        try:
            outcome = explainer.outcome(tokens, **job.options)
        except NotDefinedError as error:
            notice(f"the words are not explained: {error}")
        else:
            # The texts are the examples of this pass, and the images its targets.
            word_weights = _maps(outcome, 3).transpose(0, 1).contiguous()
            word_scores = None if outcome.explained_scores is None else outcome.explained_scores.detach().float().cpu().T
            captions = [merge_words(weights, tokens.cpu(), tokenizer) for weights in word_weights]
            options["text_layers"] = _count(explainer)
    return Explanation(
        maps=maps,
        words=captions,
        scores=cosines,
        explained_scores=explained,
        explained_word_scores=word_scores,
        texts=texts,
        method=job.kind.__name__,
        options=options,
        warnings=[],
        pictures=job.pictures,
        names=job.names,
        token_weights=word_weights,
    )


def _explain_classes(job: _Job, targets: int | str | Sequence[int | str] | None, scores: bool, width: int) -> Explanation:
    score = ClassScore(job.model)
    labels, logits = score.labels, None
    if targets is None or scores:
        with torch.no_grad():
            logits = torch.stack(_in_order(job.each_size(score)))
    if targets is None:
        assert logits is not None
        chosen = logits.softmax(dim=1).mean(dim=0).topk(min(3, width)).indices.tolist()
    else:
        several = [targets] if isinstance(targets, (Integral, str)) else list(targets)  # type: ignore[arg-type]
        if not several:
            raise ValueError("targets: expected at least one class, or None for the three most probable ones")
        chosen = [find_class(one, width, labels) for one in several]
    maps, explained, options = job.explain_images(score, chosen)
    known = logits if scores else None
    return Explanation(
        maps=maps,
        words=None,
        scores=None if known is None else known[:, chosen],
        explained_scores=explained,
        explained_word_scores=None,
        texts=[labels[target] if labels else f"class {target}" for target in chosen],
        method=job.kind.__name__,
        options=options,
        warnings=[],
        pictures=job.pictures,
        names=job.names,
        targets=chosen,
        probabilities=None if known is None else known.softmax(dim=1)[:, chosen],
    )


def _read(images: Images, tower: adapters.ImageTower, preprocess: Preprocess) -> tuple[list[str], list[Picture]]:
    """The name and the input of each image."""
    names: list[str] = []
    pictures: list[Picture] = []
    to_input = _preparation(tower, preprocess)
    for number, one in enumerate(_listed(images)):
        names.append(Path(one).name if isinstance(one, (str, os.PathLike)) else f"image {number}")
        if isinstance(one, Tensor):
            pictures.append(_prepared(one, tower))
        else:
            pictures.append(to_input(_picture(one)))
    if not names:
        raise ValueError("images: expected at least one, got none")
    return names, pictures


def _listed(images: Images) -> list[Source]:
    if isinstance(images, Tensor) and images.dim() == 4:
        return list(images)
    if isinstance(images, (Image.Image, str, os.PathLike, np.ndarray, Tensor)):
        return [images]
    if not isinstance(images, Iterable):
        raise TypeError(
            "images: expected a PIL image, a path, an array (H, W, 3) of uint8, a tensor (3, H, W) or (N, 3, H, W), or a"
            f" list of these, got {type(images).__name__}"
        )
    return [one for some in images for one in _listed(some)]


def _picture(source: Image.Image | str | os.PathLike[str] | Array) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, (str, os.PathLike)):
        try:
            return read(source)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(str(error).replace("path:", "images:", 1)) from None
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
        raise ValueError(
            f"images: expected an array (H, W, 3) of uint8, got {source.dtype} of shape {source.shape}; several images are a"
            " list of arrays, and what is prepared for the model already is a tensor"
        )
    return Image.fromarray(source)


def _prepared(pixels: Tensor, tower: adapters.ImageTower) -> Picture:
    """A tensor that is an input already, beside the picture that it was made from, as far as its values show it."""
    if pixels.dim() != 3 or pixels.shape[0] != 3 or not pixels.is_floating_point():
        raise ValueError(
            f"images: expected a floating point tensor (3, H, W) or (N, 3, H, W), got {pixels.dtype} of shape"
            f" {tuple(pixels.shape)}; raw pixels may be given as an array (H, W, 3) of uint8"
        )
    pixels = pixels.detach().cpu()
    mean, std = (torch.tensor(values)[:, None, None] for values in (tower.mean, tower.std))
    shown = (pixels.float() * std + mean).nan_to_num(0).clamp(0, 1)
    image = Image.fromarray((255 * shown).round().byte().permute(1, 2, 0).numpy())
    return Picture(image, pixels[None], Frame.whole(image.size))


def _preparation(tower: adapters.ImageTower, preprocess: Preprocess) -> Callable[[Image.Image], Picture]:
    if callable(preprocess):
        return partial(_transformed, preprocess)
    if preprocess is not None and preprocess not in get_args(Resize):
        raise ValueError(f"preprocess: expected None, one of {get_args(Resize)} or a callable, got {preprocess!r}")
    resize = preprocess or "crop"
    return partial(prepare, size=tower.size, patch=tower.patch, mean=tower.mean, std=tower.std, resize=resize)


def _transformed(transform: Callable[[Image.Image], Tensor | Picture], image: Image.Image) -> Picture:
    made = transform(image)
    if isinstance(made, Picture):
        return made
    if not isinstance(made, Tensor) or made.dim() != 3 or not made.is_floating_point():
        kind = f"{made.dtype} of shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise TypeError(
            f"preprocess: expected it to return a floating point tensor (3, H, W), got {kind}; give 'crop', 'squash' or"
            " 'keep' in its place, or images that are prepared already"
        )
    return Picture(to_rgb(image), made.detach().cpu()[None], Frame.crop(image.size, made.shape[-1] / made.shape[-2]))


def _maps(outcome: Outcome, dimensions: int) -> Tensor:
    """The maps of an outcome, one for each input and target, on the CPU."""
    assert outcome.maps is not None, "a method that refuses raises"
    if outcome.maps.dim() != dimensions:
        raise ValueError(
            f"{', '.join(outcome.options)}: expected options that give one map for each image and text, got maps of shape"
            f" {tuple(outcome.maps.shape)}; the method itself, called without explain, gives these"
        )
    return outcome.maps.detach().float().cpu()


def _count(explainer: AnyMethod) -> int:
    """How many layers a method explains; 0 for a method that looks at none."""
    if not isinstance(explainer, TokenAttribution):
        return 0
    return 1 if isinstance(explainer.layer, nn.Module) else len(explainer.layer)


def _in_order(groups: Iterable[tuple[list[int], Tensor]]) -> list[Tensor]:
    """What belongs to each image, float32 on the CPU, in the order of the images."""
    apart = [(number, one) for some, values in groups for number, one in zip(some, values.detach().float().cpu())]
    return [one for _, one in sorted(apart, key=lambda pair: pair[0])]
