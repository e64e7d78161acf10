"""What every task is: a measurement of samples, one record per sample and method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import adapters, images
from ...adapters.loading import Loaded
from ...arguments import check_number
from ...attr import RISE
from ...former import renamed
from ...metrics import Baseline, Schedule, ScoreFunction, baseline, curves
from ...quoting import quoted
from ...scores import ImageTextScore, TextImageScore, tokenize
from ..data import DataError, Dataset, Sample
from ..data.base import Known
from ..explainers import Batch, Explainer, explainers
from ..prompt_score import PromptScore
from ..records import MODES, Record
from ..setups import SETUPS, InputSpec, Setup, View
from ..tables import Table, value_table


@dataclass(frozen=True)
class Settings:
    """What decides the figures of a run, beside model and data set.

    Attributes:
        methods: ``"all"`` (default), or names of methods as :func:`captum_gradeclip.experiments.explainers` takes them.
        protocol: id of the setup, ``"fair"`` (default) or ``"release"``; what they mean stands in
            :mod:`captum_gradeclip.experiments.setups`.
        resize: how pictures become inputs of the fair setup: ``"squash"`` (default), ``"crop"`` or ``"keep"``, see
            :func:`captum_gradeclip.images.prepare`.
        baseline: what stands in the place of pixels that are not shown: ``"random"``, ``"black"``, ``"blur"``, ``"mean"`` or
            ``"own-mean"``, see :func:`captum_gradeclip.metrics.baseline`; ``None`` (default) for the task's own, which is
            ``"own-mean"`` of ``targeted`` and ``"random"`` of all others.
        batch_size: number of changed inputs in a forward pass, at least 1 (default 64).
        rise_masks: number of RISE's masks, at least 1; ``None`` (default) for that of the setup, 500 or 2000.
        skip_broken: whether samples whose files are broken, or about which too little is known for a task, are left out and
            counted; by default they stop the run.
        canvas: deprecated name of ``baseline``.

    Raises:
        ValueError: for an unknown protocol, resize or baseline, or a number below 1.

    >>> Settings(methods=["GradECLIP", "RISE"], protocol="release").setup.published
    True
    >>> Settings(resize="stretch")
    Traceback (most recent call last):
    ValueError: resize: expected one of ('keep', 'squash', 'crop'), got 'stretch'
    """

    methods: str | Sequence[str] = "all"
    protocol: str = "fair"
    resize: images.Resize = "squash"
    baseline: Baseline | None = None
    batch_size: int = 64
    rise_masks: int | None = None
    skip_broken: bool = False
    canvas: InitVar[Baseline | None] = None

    def __post_init__(self, canvas: Baseline | None) -> None:
        if canvas is not None:
            renamed("Settings(canvas=)", "Settings(baseline=)", stacklevel=4)
            object.__setattr__(self, "baseline", canvas)
        for name, given, known in (
            ("protocol", self.protocol, tuple(SETUPS)),
            ("resize", self.resize, get_args(images.Resize)),
            ("baseline", self.baseline, (None, *get_args(Baseline))),
        ):
            if given not in known:
                raise ValueError(f"{name}: expected one of {known}, got {quoted(given)}")
        check_number("batch_size", self.batch_size, whole=True, least=1)
        if self.rise_masks is not None:
            check_number("rise_masks", self.rise_masks, whole=True, least=1)

    @property
    def setup(self) -> Setup:
        """The setup that ``protocol`` names."""
        return SETUPS[self.protocol]


@dataclass(frozen=True)
class Prepared:
    """A sample whose picture has become an input; ``picture`` is ``None`` for tasks that explain texts."""

    sample: Sample
    picture: images.Picture | None

    @property
    def view(self) -> images.Picture:
        """The input, of a task that explains images."""
        assert self.picture is not None
        return self.picture


@dataclass(frozen=True)
class Group:
    """Samples whose inputs have one size.

    Attributes:
        samples: the samples.
        pixels: their inputs ``(N, 3, H, W)``.
        pictures: where these inputs lie in the pictures.
    """

    samples: Sequence[Sample]
    pixels: Tensor
    pictures: Sequence[images.Picture]

    def some(self, numbers: Sequence[int]) -> Group:
        """The samples of these numbers, which may repeat."""
        return Group([self.samples[n] for n in numbers], self.pixels[list(numbers)], [self.pictures[n] for n in numbers])


class Task:
    """A kind of measurement; made once per process, begun once, and then asked for the records of chunks of samples.

    A subclass declares its name and what it needs, and writes :meth:`measure`; the command line and the tables follow from
    the declarations.

    Args:
        loaded: model and tokenizer.
        data: the data set, of which samples will be given.
        settings: what decides the figures.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from captum_gradeclip.adapters import loading
    >>> from captum_gradeclip.experiments import DataArguments, make_dataset, run
    >>> class Brightness(Task):
    ...     name, summary = "brightness", "how bright pictures are"
    ...     def begin(self):
    ...         self.explainers = []  # no map is needed, and no text
    ...     def measure(self, samples):
    ...         found = [(one.sample.id, float(one.view.pixels.mean())) for one in samples]
    ...         return [{"id": name, "method": "none", "values": {"mean": mean}} for name, mean in found]
    >>> data = make_dataset("scenes", DataArguments(samples=2))
    >>> with tempfile.TemporaryDirectory() as out:
    ...     records = run(Brightness, loading.load(), data, Settings(), Path(out))
    >>> [(record["id"], -1 < record["values"]["mean"] < 1) for record in records]
    [('evaluation-0-000000', True), ('evaluation-0-000001', True)]
    """

    name: ClassVar[str]
    """Name of the table."""
    command: ClassVar[str | None] = None
    """The name under which the task is asked for, where that is not ``name``; tasks with one command run together."""
    summary: ClassVar[str]
    """One line of help text."""
    needs: ClassVar[tuple[Known, ...]] = ()
    """What has to be known about a sample."""
    of_texts: ClassVar[bool] = False
    """Whether texts are explained; otherwise images are."""
    things: ClassVar[tuple[int, ...]] = (2, 3, 4)
    """The numbers of things in a scene, if scenes are the data set."""
    usual_baseline: ClassVar[Baseline] = "random"
    """What stands in the place of pixels that are not shown, unless the settings say otherwise."""
    lower: ClassVar[frozenset[str]] = frozenset()
    """Names of the columns of values whose lowest value is the best; in all others the highest is."""

    score: ImageTextScore | TextImageScore
    explainers: list[Explainer]

    def __init__(self, loaded: Loaded, data: Dataset, settings: Settings) -> None:
        self.loaded, self.data, self.settings, self.setup = loaded, data, settings, settings.setup
        self.tower = adapters.image_tower(loaded.model)
        mean, std = self.tower.statistics(loaded.statistics)
        self.spec = InputSpec(self.tower.size, self.tower.patch, mean, std)
        self.device = next(loaded.model.parameters()).device

    @classmethod
    def table(cls, records: Sequence[Record], title: str, setup: Setup) -> Table:
        """The table of the records of all samples, by default the mean of every value.

        Args:
            records: the records.
            title: title of the table, without the number of samples.
            setup: the setup that they were measured under.
        """
        return value_table(records, title, cls.lower)

    @classmethod
    def schedule(cls, setup: Setup) -> Schedule:
        """After how many changed pixels the model is asked, by default as the setup has it."""
        return setup.schedule

    @property
    def baseline(self) -> Baseline:
        """What stands in the place of hidden pixels, which is the user's choice or what is usual for the task."""
        return self.settings.baseline or self.usual_baseline

    def begin(self) -> None:
        """Encodes everything that all samples share, and leaves out the methods that are not defined for the model.

        Raises:
            DataError: if the data set does not have what the task needs.
            MethodError: if a method fails for any other reason than not being defined.
        """
        self.score = self.make_score()
        self.explainers = [one for one in self.choose_explainers() if self._is_defined(one)]

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """One record per sample and method.

        Raises:
            MethodError: if a method fails.
        """
        raise NotImplementedError

    def prepare(self, sample: Sample) -> Prepared:
        """The sample as :meth:`measure` takes it.

        Raises:
            DataError: naming a sample that lacks what the task needs, or that cannot become an input; a
                :class:`LeftOutError` for one in which the task has nothing to ask for.
        """
        sample.require(self.needs)
        return Prepared(sample, None if self.of_texts else self.picture(sample, self.setup.view))

    def picture(self, sample: Sample, view: View) -> images.Picture:
        """The picture of a sample as a view of the setup shows it.

        Raises:
            DataError: naming a sample whose picture cannot become an input.
        """
        try:
            return view(sample.image, self.spec, self.settings.resize)
        except ValueError as error:
            raise DataError(f"{sample.id}: {error}") from None

    def make_score(self) -> ImageTextScore | TextImageScore:
        """The score that is explained, by default that of all classes of the data set."""
        return PromptScore.of_classes(self.loaded, self.data)

    def choose_explainers(self) -> list[Explainer]:
        """The methods that are measured, by default those of the settings."""
        return explainers(
            self.settings.methods,
            text=self.of_texts,
            masks=self.data.segmented,
            rise_masks=self.settings.rise_masks,
            setup=self.setup,
        )

    def truth(self, sample: Sample, target: int) -> Tensor:
        """The mask ``(H, W)`` of what is asked for; a wrong prediction asks for the true class."""
        assert sample.label is not None
        return sample.mask(sample.label)

    def explain(self, explainer: Explainer, group: Group, targets: Sequence[int], pixels: Tensor | None = None) -> Tensor:
        """One map ``(N, 1, h, w)`` for each input of a group, or for changed ``pixels`` in their place."""
        return explainer.explain(self.batch(explainer, group, targets, pixels))

    def batch(self, explainer: Explainer, group: Group, targets: Sequence[int], pixels: Tensor | None = None) -> Batch:
        """A group as a method takes it, or changed ``pixels`` in the place of its inputs."""
        seen = self.setup.seen(explainer.kind, group.pixels if pixels is None else pixels, self.spec)
        masks = None
        if explainer.needs_masks:
            found = []
            for sample, picture, target in zip(group.samples, group.pictures, targets):
                found.append(shown_masks(self.truth(sample, target)[None], picture, seen.shape[-2:]))
            masks = torch.cat(found)
        return Batch(self.score, seen, targets, [sample.index for sample in group.samples], masks)

    def judge(self, pixels: Tensor) -> Tensor:
        """The scores ``(N, T)`` of changed inputs ``(N, 3, H, W)``."""
        output: Tensor = self.score(self.setup.judge(pixels, self.spec))
        return output

    def groups(self, samples: Sequence[Prepared]) -> Iterator[Group]:
        """Neighbors whose inputs have the same size."""
        group: list[Prepared] = []
        for one in samples:
            if group and group[-1].view.pixels.shape != one.view.pixels.shape:
                yield self._stacked(group)
                group = []
            group.append(one)
        if group:
            yield self._stacked(group)

    def trace(
        self, group: Group, maps: Tensor, performance: Mapping[str, ScoreFunction]
    ) -> list[dict[str, dict[str, list[float]]]]:
        """For each sample the curves of deletion and insertion, by mode and by what is traced.

        Args:
            group: the samples.
            maps: their maps ``(N, 1, h, w)``.
            performance: score functions by name, see :func:`captum_gradeclip.metrics.curves`.
        """
        found: list[dict[str, dict[str, list[float]]]] = [{mode: {} for mode in MODES} for _ in group.samples]
        for mode in MODES:
            kind = self.setup.baseline(mode, self.baseline)
            seeds = [sample.index for sample in group.samples]
            traced = curves(
                self.judge,
                group.pixels,
                maps,
                performance,
                mode=mode,
                background=baseline(group.pixels, kind, self.spec.mean, self.spec.std, seeds),
                schedule=self.schedule(self.setup),
                batch_size=self.settings.batch_size,
            )
            for name, values in traced.items():
                for entry, curve in zip(found, values.tolist()):
                    entry[mode][name] = curve
        return found

    def tokens(self, text: str) -> Tensor:
        """Token ids ``(1, L)`` of a text, which may be empty."""
        return tokenize(self.loaded.model, text, self.loaded.tokenizer, allow_empty=True)

    def _stacked(self, group: Sequence[Prepared]) -> Group:
        pixels = torch.cat([one.view.pixels for one in group]).to(self.device)
        return Group([one.sample for one in group], pixels, [one.view for one in group])

    def _is_defined(self, explainer: Explainer) -> bool:
        """Whether a method is defined for the model, tried on one blank input."""
        if explainer.kind is RISE or explainer.needs_masks:
            return True  # they ask nothing of a model but its score, and RISE would take long
        inputs = (
            self.tokens("a")
            if self.of_texts
            else torch.zeros(1, self.tower.channels, *self.tower.size).to(self.device, self.tower.dtype)
        )
        return explainer.is_defined(Batch(self.score, inputs, [0], [0]))


def shown_masks(masks: Tensor, picture: images.Picture, size: Sequence[int] | None = None) -> Tensor:
    """The part of masks ``(K, height, width)`` of a picture that its input shows, by default at the size of the input."""
    left, top, right, bottom = (round(edge) for edge in picture.frame.box)
    cut = masks[:, top:bottom, left:right]
    return F.interpolate(cut[None].float(), size=tuple(size or picture.pixels.shape[-2:]))[0]


def true_class(sample: Sample) -> int:
    """The class of a sample that has been prepared by a task that needs labels."""
    assert sample.label is not None
    return sample.label
