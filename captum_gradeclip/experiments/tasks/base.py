"""What is measured of a chunk of samples: one record per sample and method, plain numbers only."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from captum.metrics import infidelity, sensitivity_max
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from .. import adapters, images
from ..attr import RISE
from ..loading import Loaded
from ..maps import merge_words, to_pixels
from ..metrics import (
    Schedule,
    canvas,
    curves,
    energy_pointing_game,
    heatmap_average_precision,
    mask_iou,
    pixel_accuracy,
    pointing_game,
    recall,
    reverse_recall,
    top_k,
    word_steps,
)
from ..metrics.faithfulness import Canvas, Mode, Performance
from ..points import point_prompts
from ..prompts import prompt_ensemble
from ..scores import ImageTextScore, TextImageScore, encode_text, tokenize
from .data import IGNORE, NOTHING, Data, DataError, Sample
from .explainers import ORACLE, Explainer, Question, explainers, layers_of

logger = logging.getLogger(__name__)
Record = dict[str, Any]
MODES: tuple[Mode, Mode] = ("deletion", "insertion")
LARGEST = 640  # shorter side in pixels up to which the released protocol takes pictures as they are
CROPPED = ("Attention Rollout", "GAME", "CLIP Surgery", "M2IB")  # which it shows the centre only


@dataclass(frozen=True)
class Settings:
    """What decides the figures of a run, beside model and data.

    Attributes:
        methods: ``"all"``, or names.
        protocol: ``"fair"``, one input for all methods and for the model that judges them, all pixels taken away and given
            back on one canvas, so that a random map gains as much as it loses; ``"release"``, half of the pixels, given
            back on black, and the rivals and inputs of the code of Grad-ECLIP: some methods run as only that code has them,
            see :data:`~captum_gradeclip.benchmark.explainers.RELEASED`, some see the whole picture and others the centre,
            whose map is then stretched over the whole; the model judges the centre of what was changed.
        resize: of the fair input.
        canvas: of deletions; under the fair protocol, of insertions as well.
        batch_size: of the forward passes on changed inputs.
        rise_masks: of RISE.
        skip_broken: leave out samples whose files are broken, or that lack what a task needs, and count them.

    Raises:
        ValueError: for an unknown protocol, resize or canvas.
    """

    methods: str | Sequence[str] = "all"
    protocol: str = "fair"
    resize: images.Resize = "squash"
    canvas: str = "random"
    batch_size: int = 64
    rise_masks: int = 500
    skip_broken: bool = False

    def __post_init__(self) -> None:
        for name, known in (
            ("protocol", ("fair", "release")),
            ("resize", get_args(images.Resize)),
            ("canvas", get_args(Canvas)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {known}, got {getattr(self, name)!r}")

    @property
    def schedule(self) -> Schedule:
        """After how many pixels the model is asked."""
        return Schedule(share=0.5, untouched=True) if self.protocol == "release" else Schedule(share=1.0)


class ClassScore(ImageTextScore):
    """Cosines with the classes of a data set, each an ensemble of prompts."""

    labels = True

    def __init__(self, loaded: Loaded, data: Data) -> None:
        if not data.classes:
            raise DataError(f"--data: {data.name} has no classes; this task needs some")
        super().__init__(
            loaded.model, prompt_ensemble(loaded.model, loaded.tokenizer, list(data.classes), list(data.templates))
        )


@dataclass(frozen=True)
class Group:
    """Samples whose inputs have one size: these inputs ``(N, 3, H, W)``, and where they lie in the pictures."""

    samples: list[Sample]
    pixels: Tensor
    pictures: list[images.Picture]

    def some(self, numbers: Sequence[int]) -> Group:
        """Those of some numbers."""
        return Group([self.samples[n] for n in numbers], self.pixels[list(numbers)], [self.pictures[n] for n in numbers])


class Task:
    """A kind of measurement; made once per process, then asked for the records of chunks."""

    name: ClassVar[str]
    of_texts: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    score: Any

    def __init__(self, loaded: Loaded, data: Data, settings: Settings) -> None:
        self.loaded, self.data, self.settings = loaded, data, settings
        self.tower = adapters.image_tower(loaded.model)
        self.mean, self.std = loaded.statistics or (self.tower.mean, self.tower.std)
        self.device = next(loaded.model.parameters()).device
        self.score = self._score()
        self.explainers = [one for one in self._explainers() if self._applies(one)]

    def measure(self, samples: Sequence[Sample]) -> list[Record]:
        """One record per sample and method."""
        raise NotImplementedError

    def check(self, sample: Sample) -> None:
        """Refuses a sample that lacks what the task needs, or that cannot become an input.

        Raises:
            DataError: naming the sample.
        """
        for what in self.needs:
            if getattr(sample, what) in (None, ()):
                raise DataError(f"{sample.id}: it has no {what}; this task needs one")
        self._picture(sample)

    def _score(self) -> Any:
        return ClassScore(self.loaded, self.data)

    def _explainers(self) -> list[Explainer]:
        return explainers(
            self.settings.methods,
            text=self.of_texts,
            masks=self.data.segmented,
            rise_masks=self.settings.rise_masks,
            released=self.settings.protocol == "release",
        )

    def _applies(self, explainer: Explainer) -> bool:
        """Whether a method is defined for the model; what is not is told, and left out of all chunks."""
        if explainer.name in (RISE.about.name, ORACLE):
            return True
        inputs = torch.zeros(1, 3, *self.tower.size, device=self.device, dtype=self.tower.dtype)
        if self.of_texts:
            inputs = self._tokens("a")
        try:
            explainer.explain(Question(self.score, inputs, [0], [0]))
        except (ValueError, adapters.UnsupportedModelError) as error:
            logger.warning("%s is left out: %s", explainer.name, error)
            return False
        return True

    def _tokens(self, text: str) -> Tensor:
        return tokenize(self.loaded.model, text, self.loaded.tokenizer, allow_empty=True)

    def _truth(self, sample: Sample, target: int) -> Tensor:
        """The mask of what is asked for, ``(H, W)``; a wrong prediction asks for the true class."""
        assert sample.label is not None
        return sample.mask(sample.label)

    def _picture(self, sample: Sample, resize: images.Resize | None = None) -> images.Picture:
        resize = resize or ("keep" if self.settings.protocol == "release" else self.settings.resize)
        released = self.settings.protocol == "release" and resize == "keep"
        try:
            return images.prepare(
                sample.image,
                size=self.tower.size,
                patch=self.tower.patch,
                mean=self.mean,
                std=self.std,
                resize=resize,
                scale=min(1.0, LARGEST / min(sample.image.size)) if released else 1.0,
                max_tokens=2**20,
            )
        except ValueError as error:
            raise DataError(f"{sample.id}: {error}") from None

    def _groups(self, samples: Sequence[Sample]) -> Iterator[Group]:
        """Neighbours whose inputs have the same size."""
        group: list[tuple[Sample, images.Picture]] = []
        for sample in samples:
            picture = self._picture(sample)
            if group and group[-1][1].pixels.shape != picture.pixels.shape:
                yield self._stacked(group)
                group = []
            group.append((sample, picture))
        if group:
            yield self._stacked(group)

    def _stacked(self, group: list[tuple[Sample, images.Picture]]) -> Group:
        return Group([s for s, _ in group], torch.cat([p.pixels for _, p in group]).to(self.device), [p for _, p in group])

    def _question(
        self, explainer: Explainer, group: Group, targets: Sequence[int], pixels: Tensor | None = None
    ) -> Question:
        """What a method is asked, about the group's pixels or changed ones."""
        pixels = group.pixels if pixels is None else pixels
        masks = None
        if explainer.name == ORACLE:
            found = []
            for sample, picture, target in zip(group.samples, group.pictures, targets):
                left, top, right, bottom = (round(edge) for edge in picture.frame.box)
                cut = self._truth(sample, target)[top:bottom, left:right]
                found.append(F.interpolate(cut[None, None].float(), size=pixels.shape[-2:])[0, 0])
            masks = torch.stack(found)
        if self.settings.protocol == "release" and explainer.name in CROPPED:
            pixels = self._centre(pixels)
        return Question(self.score, pixels, targets, [sample.index for sample in group.samples], masks)

    def _explain(self, explainer: Explainer, group: Group, targets: Sequence[int], pixels: Tensor | None = None) -> Tensor:
        """Maps of the input, ``(N, 1, h, w)``."""
        return explainer.explain(self._question(explainer, group, targets, pixels))

    def _centre(self, x: Tensor) -> Tensor:
        """Images resized by their shorter side and cut to the model's size."""
        side = self.tower.size
        factor = max(side[0] / x.shape[-2], side[1] / x.shape[-1])
        size = [max(s, round(old * factor)) for s, old in zip(side, x.shape[-2:])]
        if size != list(x.shape[-2:]):
            x = F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=True)
        top, left = (size[0] - side[0]) // 2, (size[1] - side[1]) // 2
        return x[..., top : top + side[0], left : left + side[1]]

    def _judge(self, x: Tensor) -> Tensor:
        """What the model says of changed inputs: under the released protocol, it sees their centre only."""
        output: Tensor = self.score(self._centre(x) if self.settings.protocol == "release" else x)
        return output

    def _both(
        self, group: Group, maps: Tensor, performance: dict[str, Performance]
    ) -> list[dict[str, dict[str, list[float]]]]:
        """Curves of deletion and insertion of each sample, by what is traced."""
        pixels, samples = group.pixels, group.samples
        found: list[dict[str, dict[str, list[float]]]] = [{} for _ in samples]
        for mode in MODES:
            released = self.settings.protocol == "release"
            kind: Any = "black" if released and mode == "insertion" else self.settings.canvas
            background = canvas(pixels, kind, self.mean, self.std, [sample.index for sample in samples])
            traced = curves(
                self._judge,
                pixels,
                maps,
                performance,
                mode=mode,
                background=background,
                schedule=self.settings.schedule,
                batch_size=self.settings.batch_size,
            )
            for name, values in traced.items():
                for entry, curve in zip(found, values.tolist()):
                    entry.setdefault(mode, {})[name] = curve
        return found


class Faithfulness(Task):
    """Deletion and insertion of pixels with the accuracy of zero-shot classification (tables I of both papers)."""

    name = "faithfulness"
    needs = ("label",)

    def measure(self, samples: Sequence[Sample]) -> list[Record]:
        """Curves of the accuracy among 1 and 5, of maps for the true class and for the predicted one."""
        records = []
        for group in self._groups(samples):
            labels = torch.tensor([_label(sample) for sample in group.samples])
            with torch.no_grad():
                predicted = self._judge(group.pixels).argmax(dim=1).cpu()
            other = [number for number in range(len(labels)) if predicted[number] != labels[number]]
            for explainer in self.explainers:
                maps = self._explain(explainer, group, labels.tolist())
                truth = self._both(group, maps, _accuracies(labels))
                prediction = list(truth)
                if explainer.needs_text and other:
                    some = group.some(other)
                    maps = self._explain(explainer, some, predicted[other].tolist())
                    for number, entry in zip(other, self._both(some, maps, _accuracies(labels[other]))):
                        prediction[number] = entry
                for number, sample in enumerate(group.samples):
                    values: Record = {"GT": truth[number]}
                    if explainer.needs_text:
                        values["Pred"] = prediction[number]
                    records.append({"id": sample.id, "method": explainer.name, "curves": values})
        return records


def _accuracies(labels: Tensor) -> dict[str, Performance]:
    return {"1": top_k(labels, 1), "5": top_k(labels, 5)}


class Localization(Task):
    """Maps against the mask of the true class (table IV)."""

    name = "localization"
    needs = ("label", "segments")

    def measure(self, samples: Sequence[Sample]) -> list[Record]:
        """Pointing games, average precision, and both readings of pixel accuracy and overlap."""
        records = []
        for group in self._groups(samples):
            labels = [_label(sample) for sample in group.samples]
            for explainer in self.explainers:
                maps = self._explain(explainer, group, labels).cpu()
                for sample, picture, one in zip(group.samples, group.pictures, maps):
                    # The released code stretches the map of a centre over the whole picture; a fair map knows its place.
                    heat, mask = to_pixels(one, picture.frame), self._truth(sample, _label(sample))[None]
                    values = {
                        "PG": pointing_game(heat, mask).float(),
                        "energy-PG": energy_pointing_game(heat, mask),
                        "pixel acc. (all, mean)": pixel_accuracy(heat, mask),
                        "pixel acc. (foreground, mean)": pixel_accuracy(heat, mask, accuracy="foreground"),
                        "AP (both)": heatmap_average_precision(heat, mask),
                        "AP (foreground)": heatmap_average_precision(heat, mask, "foreground"),
                        "mIoU (both, mean)": mask_iou(heat, mask, "mean", "mean"),
                        "mask IoU (foreground, 0.5)": mask_iou(heat, mask),
                    }
                    found = {name: float(value) for name, value in values.items()}
                    records.append({"id": sample.id, "method": explainer.name, "values": found})
        return records


class _Gallery(Task):
    """All pictures and captions of a data set, encoded once."""

    needs = ("captions",)

    def _score(self) -> Any:
        features, tokens, owners = [], [], []
        self.row: dict[int, int] = {}
        for index in track(range(len(self.data)), "encoding pictures and captions", transient=True):
            try:
                sample = self.data[index]
                self.check(sample)
            except DataError:
                if not self.settings.skip_broken:
                    raise
                continue
            with torch.no_grad():
                pixels = self._picture(sample, "crop" if self.settings.protocol == "release" else None).pixels
                features.append(self.tower.encode(pixels.to(self.device, self.tower.dtype)))
            for caption in sample.captions:
                tokens.append(self._tokens(caption))
                owners.append(len(self.row))
            self.row[index] = len(self.row)
        if not features:
            raise DataError("--data: no sample has both a picture and captions; this task needs some")
        self.texts = torch.cat([encode_text(self.loaded.model, one) for one in tokens])
        self.pictures = F.normalize(torch.cat(features).to(self.texts.dtype), dim=-1)
        self.first = {owner: number for number, owner in reversed(list(enumerate(owners)))}
        self.owner = torch.tensor(owners)
        self.gallery = self.pictures @ self.texts.T
        return self._compared()

    def _compared(self) -> Any:
        raise NotImplementedError


class Retrieval(_Gallery):
    """Deletion and insertion of pixels with the recall of both directions of retrieval (table II).

    The changed picture queries all captions (TR), and its first caption queries the pictures, of which only its own is
    changed (IR).
    """

    name = "retrieval"

    def _compared(self) -> Any:
        return ImageTextScore(self.loaded.model, self.texts)

    def measure(self, samples: Sequence[Sample]) -> list[Record]:
        """Curves of recall at 1 and 5, in both directions."""
        records = []
        for group in self._groups(samples):
            own = torch.tensor([self.row[sample.index] for sample in group.samples])
            first = torch.tensor([self.first[row] for row in own.tolist()])
            mine = self.owner[None] == own[:, None]
            performance = {}
            for k in (1, 5):
                performance[f"IR@{k}"] = reverse_recall(self.gallery, first, own, k)
                performance[f"TR@{k}"] = recall(mine, k)
            for explainer in self.explainers:
                found = self._both(group, self._explain(explainer, group, first.tolist()), performance)
                records += [
                    {"id": sample.id, "method": explainer.name, "curves": {"image": entry}}
                    for sample, entry in zip(group.samples, found)
                ]
        return records

    def _truth(self, sample: Sample, target: int) -> Tensor:
        assert sample.segments is not None
        return (sample.segments >= 0).long()  # the first caption of a scene names all things


class Words(_Gallery):
    """Deletion and insertion of words with the recall at 1 of both directions of retrieval (table III).

    The first caption of each picture is changed: by fifths of its words, from none to all, so that a random map gains as
    much as it loses; or, as released, one to five words, the whole caption beside them. It queries all pictures (IR); its
    picture queries it and the captions of all other pictures (TR).
    """

    name = "words"
    of_texts = True

    def _compared(self) -> Any:
        return TextImageScore(self.loaded.model, self.pictures)

    def measure(self, samples: Sequence[Sample]) -> list[Record]:
        """Curves of recall at 1, in both directions."""
        records = []
        for sample in samples:
            # One at a time, as with a tokenizer that pads to the longest, a batch would have another length.
            caption, row = sample.captions[0], self.row[sample.index]
            tokens = self._tokens(caption)
            others = self.gallery[row, self.owner.to(self.gallery.device) != row]
            for explainer in self.explainers:
                maps = explainer.explain(Question(self.score, tokens, [row], [sample.index]))
                words = merge_words(maps.cpu(), tokens.cpu(), self.loaded.tokenizer)[0]
                released = self.settings.protocol == "release"
                counts = [step if released else round(len(words) * step / 5) for step in range(6)]
                curve: dict[str, dict[str, list[float]]] = {}
                for mode in MODES:
                    texts = list(word_steps([w for w, _ in words], [v for _, v in words], mode, counts))
                    cosines = self._cosines([caption, *texts[1:]] if released else texts)
                    own = cosines[:, row]
                    curve[mode] = {
                        "IR": ((cosines > own[:, None]).sum(dim=1) < 1).float().tolist(),
                        "TR": ((others[None] > own[:, None]).sum(dim=1) < 1).float().tolist(),
                    }
                records.append({"id": sample.id, "method": explainer.name, "curves": {"words": curve}})
        return records

    def _cosines(self, texts: Sequence[str]) -> Tensor:
        """Of captions, some of which may be empty, with all pictures."""
        with torch.no_grad():
            return torch.cat([self.score(self._tokens(text)) for text in texts])


class ImageLayers(Retrieval):
    """As retrieval, of Grad-ECLIP over the last 1, 2, 4, 8, 10, 12 layers (table VI)."""

    name = "image layers"

    def _explainers(self) -> list[Explainer]:
        depth = len(self.tower.layers)
        return [layers_of(count) for count in (1, 2, 4, 8, 10, 12) if count <= depth]


class TextLayers(Words):
    """As words, of Grad-ECLIP over the last 1, 2, 4, 6, 8, 10, 12 layers (table VII)."""

    name = "text layers"

    def _explainers(self) -> list[Explainer]:
        depth = len(adapters.text_tower(self.loaded.model).layers)
        return [layers_of(count) for count in (1, 2, 4, 6, 8, 10, 12) if count <= depth]


class OpenVocabulary(Task):
    """Maps of all classes at once: segmentation by the highest, recognition by their maxima, points to click on.

    A pixel is background where no class reaches half of the range of the picture's maps. A class is there as much as its
    map's highest value.
    """

    name = "openvocab"
    needs = ("segments",)
    threshold = 0.5

    def measure(self, samples: Sequence[Sample]) -> list[Record]:
        """Counts of pixels per class, a score per class, and hits of the points of every class that is there."""
        records = []
        classes = list(range(len(self.data.classes)))
        for group in self._groups(samples):
            for explainer in self.explainers:
                if not explainer.needs_text:
                    continue
                maps = self._all(explainer, group, classes).cpu()
                for sample, picture, own in zip(group.samples, group.pictures, maps):
                    assert sample.segments is not None
                    segments = sample.segments
                    present = sorted(set(segments[segments >= 0].tolist()))
                    full = to_pixels(own, picture.frame)
                    low, high = full.min(), full.max()
                    best = full.amax(dim=0)
                    found = torch.where(best >= low + self.threshold * (high - low), full.argmax(dim=0), NOTHING)
                    counted = segments != IGNORE
                    pixels_of = {}
                    for label in sorted({*present, *found[counted].unique().tolist(), NOTHING}):
                        here, there = (found == label) & counted, segments == label
                        pixels_of[str(label)] = [int((here & there).sum()), int((here | there).sum())]
                    clicks = [self._clicked(own[label], segments == label, picture) for label in present]
                    values = {
                        "pixels": pixels_of,
                        "present": present,
                        "scores": own.flatten(1).amax(dim=1).tolist(),
                        "points": sum(clicks) / len(clicks) if clicks else None,
                    }
                    records.append({"id": sample.id, "method": explainer.name, "open": values})
        return records

    def _clicked(self, attribution: Tensor, mask: Tensor, picture: images.Picture) -> float:
        """Share of the positive points of a map that lie on a mask of the picture."""
        left, top, right, bottom = (round(edge) for edge in picture.frame.box)
        points, kind = point_prompts(attribution, (bottom - top, right - left))
        x, y = points[kind == 1].T
        return float(mask[y + top, x + left].float().mean()) if len(x) else 0.0

    def _truth(self, sample: Sample, target: int) -> Tensor:
        return sample.mask(target)

    def _all(self, explainer: Explainer, group: Group, classes: Sequence[int]) -> Tensor:
        """``(N, classes, h, w)``."""
        if explainer.all_targets is not None:
            return explainer.all_targets(self._question(explainer, group, classes))
        return torch.cat([self._explain(explainer, group, [label] * len(group.samples)) for label in classes], dim=1)


class Axioms(Task):
    """Captum's infidelity and largest sensitivity of the maps of the true class, in the space of the input."""

    name = "axioms"
    needs = ("label",)
    squares, repeats, radius = 40, 4, 0.05

    def measure(self, samples: Sequence[Sample]) -> list[Record]:
        """Both of each sample, which has random numbers of its own."""
        records = []
        for sample in samples:
            (group,) = self._groups([sample])
            pixels, label = group.pixels, _label(sample)
            for explainer in self.explainers:

                def attributions(x: Tensor, explainer: Explainer = explainer, group: Group = group) -> Tensor:
                    many = group.some([0] * len(x))
                    maps = self._explain(explainer, many, [_label(many.samples[0])] * len(x), x).detach()
                    full = F.interpolate(maps, size=x.shape[-2:], mode="bilinear", align_corners=False)
                    return (full / x.shape[1]).expand_as(x).contiguous()

                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(sample.index)
                    unfaithful = infidelity(
                        self._judge,
                        _erase_square,
                        pixels,
                        attributions(pixels),
                        target=label,
                        n_perturb_samples=self.squares,
                        normalize=True,
                    )
                    sensitive = sensitivity_max(
                        lambda x, explain=attributions: (explain(x[0]),),
                        pixels,
                        perturb_radius=self.radius,
                        n_perturb_samples=self.repeats,
                    )
                values = {"infidelity x 1e4": 1e4 * float(unfaithful), "sensitivity": float(sensitive)}
                records.append({"id": sample.id, "method": explainer.name, "values": values})
        return records


def _erase_square(x: Tensor) -> tuple[Tensor, Tensor]:
    """A random square of a quarter of the side painted in the mean colour: the change, and the changed images."""
    changed = x.clone()
    height, width = x.shape[-2] // 4, x.shape[-1] // 4
    for image in changed:
        top, left = int(torch.randint(0, 3 * height + 1, ())), int(torch.randint(0, 3 * width + 1, ()))
        image[:, top : top + height, left : left + width] = 0.0
    return x - changed, changed


def _label(sample: Sample) -> int:
    assert sample.label is not None  # Task.check
    return sample.label


TASKS: dict[str, tuple[type[Task], ...]] = {
    "faithfulness": (Faithfulness,),
    "retrieval": (Retrieval,),
    "words": (Words,),
    "localization": (Localization,),
    "layers": (ImageLayers, TextLayers),
    "openvocab": (OpenVocabulary,),
    "axioms": (Axioms,),
}
"""What can be asked for, and what is measured for it."""
