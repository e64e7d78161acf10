"""The whole road in one call: from pictures and texts to an explanation."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

import torch
from torch import Tensor, nn

from . import adapters, guards
from .adapters.base import Foreign, execution_device
from .adapters.loading import find_device
from .arguments import check_number, check_strings
from .attention import one_call
from .attr import Method, NotDefinedError, Outcome, TokenAttribution, WordRegionAttribution, find_method
from .attr.registry import AnyMethod, Kind
from .guards import GuardFinding
from .images import Picture
from .inputs import Images, Inputs, Preprocess, read_inputs
from .maps import Words, merge_regions, merge_words, to_pixels
from .notices import kept_notices, notice
from .quoting import quoted
from .scores import ClassScore, ContrastScore, ImageTextScore, ModelScore, TextImageScore, Tokenizer, tokenize

if TYPE_CHECKING:
    import pandas

    from .show import ColorScale, Drawing, Format

__all__ = ["Explanation", "explain"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What :func:`explain` found out about N images and T texts (or T classes of a classifier).

    Attributes:
        maps: one map for each image and text, ``(N, T, h, w)`` float32, on the patch grid or in pixels of the input, as
            the method gives them; a list of N tensors ``(T, h, w)`` where the grids of the images differ.
        words: ``words[n][t]`` is the text t as ``[(word, weight), ...]`` in reading order, explained for image n, with
            the weights as the method gives them; ``None`` without texts, for a method that does not explain texts, or if
            no words were asked for.
        scores: scores of the unmodified model ``(N, T)``: cosines, or logits of a classifier, with ``against`` their
            differences; ``None`` if they were not asked for.
        explained_scores: scores ``(N, T)`` of the image pass that was explained, which is not quite the model's own where
            the method changes the model (Grad-ECLIP with one head); ``None`` for a method that has no such pass.
        explained_word_scores: the same scores ``(N, T)`` of the text pass; ``None`` without words.
        carried: the share ``(N, T)`` of the explained score that the patches carry, as far as the score is linear in what
            the explained layers of the image tower attend to; class and register tokens carry the rest. Near 1 a map can
            tell all of it, near 0 next to nothing, whatever it looks like; below 0 or far above 1 patches and other tokens
            speak against each other, and NaN says that all cancel. ``None`` for a method that does not follow the score
            through attention.
        texts: the T texts, or names of classes.
        method: the id of the method, its class name.
        options: the options that the method was given, by name, and how many of the last ``layers`` and ``text_layers``
            were explained.
        warnings: what the package warned of during the computation, and what those guards found that cost next to nothing
            (:mod:`captum_gradeclip.guards`): another order of the texts in the pass that was explained, maps that are the
            same everywhere, a saturated score, an input that does not look normalized as the model wants it.
            :func:`captum_gradeclip.trust` asks more.
        pictures: the N images as they were given, and the inputs that the model saw of them.
        names: the N names of the images: that of the file, or ``"image 0"`` and so on.
        targets: the T indices of the classes of a classifier; ``None`` for texts.
        probabilities: softmax of a classifier's logits over all its classes ``(N, T)``; ``None`` for texts, and without
            scores.
        token_weights: the weights of all tokens ``(N, T, L)``, from which ``words`` were merged; ``None`` without words.
        paths: the files of those images that were given by their paths, which results never replace.
        against: the text, or the name of the class, that each text was held against: the maps say why an image matches the
            one rather than the other, and all scores of images are differences. ``None`` if there was none.
        image_warnings: for each image the warnings that its explanation alone would have.
        regions: ``regions[n][t]`` is the text t as ``[(word, map), ...]``, one signed map ``(h, w)`` on the patch grid of
            image n for each word, in units of the cosine, by :class:`~captum_gradeclip.WordRegionAttribution`; ``None``
            unless they were asked for.

    >>> from captum_gradeclip import explain, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> image = scenes.SceneDataset(1, "evaluation", size=128)[0].image
    >>> found = explain(model, image, ["cyan triangle", "red circle"], tokenizer, words=False)
    >>> found, found.maps.shape, found.pixels(0).shape
    (Explanation(1 images, 2 texts, method='GradECLIP'), torch.Size([1, 2, 12, 12]), torch.Size([2, 128, 128]))
    >>> bool(found.scores[0, 0] > found.scores[0, 1])
    True
    """

    maps: Tensor | list[Tensor]
    words: Sequence[Sequence[Words]] | None
    scores: Tensor | None
    explained_scores: Tensor | None
    explained_word_scores: Tensor | None
    carried: Tensor | None
    texts: list[str]
    method: str
    options: Mapping[str, object]
    warnings: list[str]
    pictures: list[Picture]
    names: list[str]
    targets: list[int] | None = None
    probabilities: Tensor | None = None
    token_weights: Tensor | None = None
    paths: Sequence[Path] = ()
    against: str | None = None
    image_warnings: Sequence[Sequence[str]] = ()
    regions: Sequence[Sequence[Sequence[tuple[str, Tensor]]]] | None = None

    def __len__(self) -> int:
        """The number N of images."""
        return len(self.pictures)

    def __repr__(self) -> str:
        warned = f", {len(self.warnings)} warnings" if self.warnings else ""
        return f"Explanation({len(self)} images, {len(self.texts)} texts, method={quoted(self.method)}{warned})"

    def image(self, i: int) -> Explanation:
        """What was found about one image.

        Args:
            i: the number of the image, from 0 to N - 1; negative numbers count from the end.

        Returns:
            An explanation of that image alone, which shares its tensors with this one.

        Raises:
            IndexError: if there is no such image.
        """
        i = range(len(self))[i]

        def of(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[i : i + 1]

        return replace(
            self,
            maps=self.maps[i][None],
            words=None if self.words is None else [self.words[i]],
            scores=of(self.scores),
            explained_scores=of(self.explained_scores),
            explained_word_scores=of(self.explained_word_scores),
            carried=of(self.carried),
            pictures=[self.pictures[i]],
            names=[self.names[i]],
            probabilities=of(self.probabilities),
            token_weights=of(self.token_weights),
            warnings=self.warnings_of(i),
            image_warnings=self.image_warnings[i : i + 1],
            regions=None if self.regions is None else [self.regions[i]],
        )

    def warnings_of(self, i: int) -> list[str]:
        """The warnings that the explanation of one image has; where nobody told them apart, those of all."""
        return list(self.image_warnings[i]) if self.image_warnings else self.warnings

    def pixels(self, i: int) -> Tensor:
        """The maps of one image at the size of that image as it was given.

        Args:
            i: the number of the image, from 0 to N - 1; negative numbers count from the end.

        Returns:
            ``(T, H, W)`` float32, bilinear; NaN where the model saw nothing of the image.

        Raises:
            IndexError: if there is no such image.
        """
        return to_pixels(self.maps[i], self.pictures[i].frame_of(self.maps[i]))

    def plot(
        self,
        image: int | None = None,
        *,
        cmap: str | None = None,
        color_scale: ColorScale = "shared",
        width: float | None = None,
        dpi: int = 150,
    ) -> Drawing:
        """A figure with one row for each image: the image, and beside it an overlay for each text, its words below.

        Args:
            image: the number of the only image to draw, from 0 to N - 1; negative ones count from the end. ``None``
                (default) draws all of them.
            cmap: name of a color map of matplotlib; ``None`` (default) for ``"plasma"``, and ``"RdBu_r"``, centered on zero,
                for maps with negative values.
            color_scale: ``"shared"`` (default) for one scale for all texts of an image, so that a text that is not there
                looks cold; ``"each"`` for one for each map.
            width: width of the figure in millimeters, from 30 to 2000; ``None`` (default) for what suits its panels.
            dpi: dots per inch of the figure, from 20 to 1200 (default 150).

        Returns:
            A figure of matplotlib that belongs to no window; ``figure.savefig`` writes it, and a notebook shows it.

        Raises:
            IndexError: if there is no such image.
            ValueError: naming the argument that is out of range.
        """
        from .report import figure
        from .show import Style

        style = Style(cmap, color_scale, width, dpi)
        if image is not None and not -len(self) <= image < len(self):
            raise IndexError(f"image: expected the number of one of {len(self)} images, got {quoted(image)}")
        return figure(self, None if image is None else image % len(self), style)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        cmap: str | None = None,
        color_scale: ColorScale = "shared",
        width: float | None = None,
        dpi: int = 150,
        format: Format = "png",
        full_size: bool = False,
        html: bool = False,
    ) -> None:
        """Writes pictures, maps and numbers, see :func:`captum_gradeclip.report.save`.

        Args:
            folder: it is made if it is not there. The files of one image lie in it directly, those of several images in
                a folder inside it for each.
            cmap: as for :meth:`plot`.
            color_scale: as for :meth:`plot`.
            width: as for :meth:`plot`.
            dpi: as for :meth:`plot`.
            format: format of the figures, ``"png"`` (default), ``"pdf"`` or ``"svg"``. Overlays are always PNG.
            full_size: whether overlays have the size of the image, instead of that at which they are looked at (default
                false).
            html: whether ``explanation.html``, a page to be looked at and mailed, is written as well, see
                :func:`captum_gradeclip.report.page` (default false).

        Raises:
            FileExistsError: if a file that is not of an earlier explanation lies where one is to be written.
            OSError: if a file cannot be written. What lay in the folder before is then still there, in both cases.
            ValueError: naming the argument that is out of range.
        """
        from .report import save
        from .show import Style

        save(self, Path(folder), style=Style(cmap, color_scale, width, dpi, format, full_size), html=html)

    def to_pandas(self) -> pandas.DataFrame:
        """A table with one row for each image and text, or for each image, text and word if there are words.

        Returns:
            A data frame with the columns ``image`` (the name) and ``text``, then as far as they are known ``against``,
            ``target``, ``score``, ``probability``, ``explained_score`` and ``carried``, and with words
            ``explained_word_score``, ``position`` (of the word in its text, from 0), ``word`` and ``weight``.

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
            "carried": self.carried,
            "explained_word_score": self.explained_word_scores,
        }
        rows: list[dict[str, object]] = []
        for n, name in enumerate(self.names):
            for t, text in enumerate(self.texts):
                row: dict[str, object] = {"image": name, "text": text}
                row |= {} if self.against is None else {"against": self.against}
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


@one_call
def explain(
    model: nn.Module,
    images: Images,
    texts: str | Sequence[str] | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    preprocess: Preprocess = None,
    method: str | Kind = "GradECLIP",
    targets: int | str | Sequence[int | str] | None = None,
    against: int | str | None = None,
    device: str | torch.device | None = None,
    words: bool = True,
    scores: bool = True,
    regions: bool = False,
    layers: int | None = None,
    text_layers: int | None = None,
    max_tokens: int | None = None,
    batch_size: int = 16,
    workers: int | None = None,
    **options: object,
) -> Explanation:
    """Explains which parts of some images, and which words of some texts, made them match.

    The image tower runs on each image twice at most, and so does the text tower on each text: once as they are, for the
    features, and once for the pass that is explained. Images are decoded and prepared while the model looks at those before
    them, and those of one size go through it together.

    Args:
        model: a model of images and texts, or an image classifier, that an adapter knows; used as it is and never changed.
        images: a PIL image, the path of a file, an array ``(H, W, 3)`` of uint8, a tensor ``(C, H, W)`` or
            ``(N, C, H, W)`` with the C channels that the model takes, floating point, what a processor of transformers or
            timm's ``NaFlexCollator`` returned, or a list of these, which may have different sizes. A tensor is taken as it
            is, prepared for the model already; its maps then lie on the tensor's own pixels.
        texts: a text, or a list of texts, that each image is compared with; ``None`` (default) for a classifier.
        tokenizer: the model's tokenizer, of open_clip or transformers; needed with texts. A processor of transformers is a
            tokenizer as well, and makes pictures into inputs unless ``preprocess`` says otherwise.
        preprocess: how a picture becomes an input of the model. ``None`` (default) and ``"model"`` do exactly what the
            model's own library does (size, resizing, crop, interpolation, mean and standard deviation: open_clip's
            ``preprocess_cfg``, timm's data settings, the processor of transformers), so that the scores are those of
            everybody else; maps are finer where the picture is given larger. ``"keep"`` keeps size and aspect, up to the
            nearest multiples of the patch, as the demonstration of the Grad-ECLIP paper does, a number is the longer side in
            pixels to which the picture is resized first, for both see ``max_tokens``; ``"squash"`` resizes to the
            model's size whatever the aspect; ``"crop"`` resizes the short side to the model's size and cuts out the center.
            All of these normalize with the mean and standard deviation of the model's own preprocessing. A processor of
            transformers says it in place of the model. Any other callable takes the PIL image: a transform of torchvision,
            for instance, which returns a tensor ``(C, H, W)``, the same at each call; which part of a picture it shows is
            found by showing it others. Or a function that returns a :class:`captum_gradeclip.images.Picture`, which says
            itself where its input lies.
        method: the name of a method in any spelling, or its class (default ``"GradECLIP"``).
        targets: the classes of a classifier to explain, by index, by name, by a part of a name that only one class has, or
            by WordNet id (``"n02091134"``, if they are those of ImageNet), the same for all images; ``None`` (default) for
            the three that are most probable on average.
        against: another text, or the index or name of another class of a classifier, that each text or class is held against
            (:class:`~captum_gradeclip.ContrastScore`); ``""`` is the text without words, ``None`` (default) stands for no
            contrast. The maps then say why an image matches the one rather than the other; ``relu_attributions=False`` shows
            what speaks for the other as well. The words of a text do not depend on another text, so theirs are those of the
            text itself.
        device: where to compute, to which the model is moved as by ``model.to(device)``; ``"auto"`` for a GPU if there is
            one, ``None`` (default) for where the model lies.
        words: whether to explain the words of the texts as well (default true).
        scores: whether to keep the scores of the unmodified model (default true). Without words and without scores, the
            image tower runs once only.
        regions: whether to find the region of each word of the texts as well, see
            :class:`~captum_gradeclip.WordRegionAttribution` (default false). It takes another pass of the texts and two of
            the images, whatever the method is. A classifier has no words.
        layers: how many of the last attention layers of the image tower to explain, from 1 to all of them; ``None``
            (default) for those that the method is meant for.
        text_layers: the same for the text tower.
        max_tokens: the most patches that ``preprocess="keep"`` and a number may give; a picture that gives more is refused.
            With ``None`` (default), one that gives more than 4,096 is shrunk until it does not, and ``warnings`` says so.
        batch_size: how many images of the model's own size go through it at once, at least 1 (default 16); of larger ones
            fewer, in proportion to their pixels.
        workers: number of threads that decode and prepare images ahead of the model, at least 0; ``None`` (default) for as
            many as there are cores, 4 at most, but none where ``preprocess`` is a callable of yours.
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
    (torch.Size([1, 2, 12, 12]), torch.Size([1, 2]), ['a', 'red', 'circle'])
    """
    adapters.image_tower(model)  # what no adapter knows is refused first of all
    if isinstance(method, Method):
        raise TypeError(
            f"method: expected a name or a class, got an object of {type(method).__name__}; choose its layers by layers"
        )
    if options.get("heads") == "each":
        raise ValueError('heads: "each" gives several maps for each image and text; call the method itself for these')
    if device is not None:
        model = model.to(find_device(device))
    with kept_notices() as noticed:
        processor = tokenizer if adapters.is_processor(tokenizer) else None
        check_number("batch_size", batch_size, whole=True, least=1)
        if workers is not None:
            check_number("workers", workers, whole=True, least=0)
        inputs = read_inputs(images, model, preprocess, processor, max_tokens, workers)
        job = _Job(model, find_method(method), inputs, batch_size, layers, text_layers, options, against)
        if is_classifier(model):
            if texts is not None:
                raise ValueError(f"texts: {job.model_name} is a classifier without a text encoder; name classes by targets")
            explanation = _explain_classes(job, targets, scores)
        elif targets is not None:
            raise ValueError(f"targets: {job.model_name} is no classifier; it compares images with texts")
        else:
            several = [] if texts is None else check_strings("texts", texts)
            if not several:
                raise ValueError(f"texts: {job.model_name} compares images with texts; give at least one text")
            explanation = _explain_texts(job, several, tokenizer, words, scores)
            if regions:
                explanation = replace(explanation, regions=_regions(job, several, tokenizer))
    warnings = _guarded(model, job.kind, explanation, noticed)
    of_each = [_guarded(model, job.kind, explanation.image(i), noticed) for i in range(len(explanation))]
    return replace(explanation, warnings=warnings, image_warnings=of_each, paths=inputs.paths)


def _guarded(model: nn.Module, kind: Kind, found: Explanation, noticed: Sequence[str]) -> list[str]:
    """What was noticed, and what the guards say that have fired, of those that cost next to nothing."""
    with kept_notices() as kept:
        for message in (*noticed, *(one.message for one in _guards(model, kind, found) if one.fired)):
            notice(message)
    return kept


def _guards(model: nn.Module, kind: Kind, found: Explanation) -> list[GuardFinding]:
    """What the guards that cost next to nothing find in an explanation."""
    tower = adapters.image_tower(model)
    made_elsewhere = [one.pixels[0] for one in found.pictures if one.preprocessing.get("mean") is None]
    in_units = kind.info.unit is None and kind.info.class_discriminative
    return guards.always(
        list(found.maps), found.scores, found.explained_scores, made_elsewhere, tower.mean, tower.std, in_units
    )


def is_classifier(model: nn.Module) -> bool:
    """Whether a model has an image tower only.

    Raises:
        UnsupportedModelError: if no adapter knows the model, or it has a text tower that none knows.
    """
    adapters.image_tower(model)
    try:
        adapters.text_tower(model)
    except adapters.NoTextTowerError:
        return True
    return False


@dataclass(frozen=True)
class _Job:
    """What is to be explained, and how."""

    model: nn.Module
    kind: Kind
    inputs: Inputs
    batch_size: int
    layers: int | None
    text_layers: int | None
    options: Mapping[str, Foreign]
    against: int | str | None
    pictures: list[Picture] = field(default_factory=list)  # those that have been read

    @property
    def model_name(self) -> str:
        return type(self.model).__name__

    def each_batch(self, function: Callable[[Tensor], T]) -> list[tuple[list[int], T]]:
        """What a function returns for batches ``(n, C, H, W)`` of one size each, beside the numbers of their images."""
        device = execution_device(self.model)
        return [(some, function(torch.cat([self.pictures[n].pixels for n in some]).to(device))) for some in self._batches()]

    def _batches(self) -> Iterator[list[int]]:
        """Numbers of images of one size, as soon as there are enough of them, or no further ones."""
        usual = math.prod(adapters.image_tower(self.model).size)
        waiting: dict[tuple[int, ...], list[int]] = {}
        for number in range(len(self.inputs.names)):
            if number == len(self.pictures):
                self.pictures.append(next(self.inputs.pictures))
            size = tuple(self.pictures[number].pixels.shape[1:])
            some = waiting.setdefault(size, [])
            some.append(number)
            if len(some) >= max(1, self.batch_size * usual // math.prod(size[1:])):
                yield waiting.pop(size)
        yield from waiting.values()

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

    def explain_images(self, score: ModelScore, targets: list[int] | None = None) -> tuple[_Seen, dict[str, object]]:
        """What was found of all images, and the options of the explanation."""
        explainer = self.explainer(score, "layers", self.layers)
        outcomes = self.each_batch(lambda pixels: explainer.outcome(pixels, targets, carried=True, **self.options))
        maps = _in_order([(some, _maps(outcome, 4)) for some, outcome in outcomes])
        explained = [(some, one.explained_scores) for some, one in outcomes if one.explained_scores is not None]
        carried = [(some, one.carried) for some, one in outcomes if one.carried is not None]
        seen = _Seen(
            maps=torch.stack(maps) if len({one.shape for one in maps}) == 1 else maps,
            explained_scores=torch.stack(_in_order(explained)) if explained else None,
            carried=torch.stack(_in_order(carried)) if carried else None,
        )
        held = {} if self.against is None else {"against": self.against}
        return seen, {"layers": _count(explainer), "text_layers": None, **held, **outcomes[0][1].options}


class _Seen(TypedDict):
    """What an explanation holds of its images."""

    maps: Tensor | list[Tensor]
    explained_scores: Tensor | None
    carried: Tensor | None


def _explain_texts(job: _Job, texts: list[str], tokenizer: Tokenizer | None, words: bool, scores: bool) -> Explanation:
    tokens = tokenize(job.model, texts, tokenizer)
    image_score: ImageTextScore = ImageTextScore(job.model, tokens, tokenizer)
    contrast = None
    if job.against is not None:
        if not isinstance(job.against, str):
            raise TypeError(f"against: expected another text, got {quoted(job.against)}; numbers are those of classes")
        if job.against in texts:
            raise ValueError(f"against: {quoted(job.against)} is among the texts, and no text differs from itself")
        contrast = ContrastScore(image_score, job.against)
    cosines = features = word_weights = word_scores = captions = None
    if words or scores:
        encoded = job.each_batch(lambda pixels: TextImageScore(job.model, pixels).image_features)
        features = torch.stack(_in_order(encoded))
    if features is not None and scores:
        # In double precision, which autocast leaves alone.
        cosines = features.double() @ image_score.text_features.detach().cpu().double().T
        if contrast is not None and contrast.other_features is not None:
            cosines = cosines - features.double() @ contrast.other_features.cpu().double().T
        cosines = cosines.float()
    seen, options = job.explain_images(image_score if contrast is None else contrast)
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
        **seen,
        words=captions,
        scores=cosines,
        explained_word_scores=word_scores,
        texts=texts,
        method=job.kind.__name__,
        options=options,
        warnings=[],
        pictures=job.pictures,
        names=job.inputs.names,
        token_weights=word_weights,
        against=job.against,
    )


def _regions(job: _Job, texts: list[str], tokenizer: Tokenizer | None) -> list[list[list[tuple[str, Tensor]]]] | None:
    """The words of each text with their regions, for each image; nothing where that is not defined."""
    tokens = tokenize(job.model, texts, tokenizer)
    both = WordRegionAttribution(job.model, tokenizer)
    try:
        directions = both.directions(tokens)  # (T, L, D)
        every = directions.flatten(0, 1)[None]
        found = _in_order(job.each_batch(lambda pixels: both.regions(pixels, every.expand(len(pixels), -1, -1))))
    except NotDefinedError as error:
        notice(f"the words have no regions: {error}")
        return None
    of_texts = [one.unflatten(0, directions.shape[:2]) for one in found]  # (T, L, h, w) each
    ids = tokens.cpu()
    return [[merge_regions(maps, text, tokenizer) for maps, text in zip(one, ids)] for one in of_texts]


def _explain_classes(job: _Job, targets: int | str | Sequence[int | str] | None, scores: bool) -> Explanation:
    score = ClassScore(job.model)
    labels, logits = score.labels, None
    if targets is None or scores:
        with torch.no_grad():
            logits = torch.stack(_in_order(job.each_batch(score)))
    if targets is None:
        assert logits is not None
        chosen = most_probable(logits)
    else:
        several = [targets] if isinstance(targets, (Integral, str)) else list(targets)  # type: ignore[arg-type]
        if not several:
            raise ValueError("targets: expected at least one class, or None for the three most probable ones")
        chosen = [score.find(one) for one in several]
    other = None
    if job.against is not None:
        try:
            other = score.find(job.against)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("targets: ", "against: ", 1)) from None
    if other in chosen:
        raise ValueError(f"against: {quoted(job.against)} is among the targets, and no class differs from itself")
    seen, options = job.explain_images(score if other is None else ContrastScore(score, other), chosen)
    known = logits if scores else None
    own = None if known is None else known[:, chosen] - (0 if other is None else known[:, [other]])
    return Explanation(
        **seen,
        words=None,
        scores=own,
        explained_word_scores=None,
        texts=[labels[target] if labels else f"class {target}" for target in chosen],
        method=job.kind.__name__,
        options=options,
        warnings=[],
        pictures=job.pictures,
        names=job.inputs.names,
        targets=chosen,
        probabilities=None if known is None else known.softmax(dim=1)[:, chosen],
        against=None if other is None else labels[other] if labels else f"class {other}",
    )


def most_probable(logits: Tensor) -> list[int]:
    """The classes, three at most, that are explained where none was asked for: the most probable ones, on average.

    Args:
        logits: logits ``(N, classes)`` of N images.

    >>> most_probable(torch.tensor([[0.0, 3.0, 1.0, 2.0]]))
    [1, 3, 2]
    """
    found: list[int] = logits.softmax(dim=1).mean(dim=0).topk(min(3, logits.shape[1])).indices.tolist()
    return found


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
