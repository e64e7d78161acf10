"""What is explained: a number per example and target, with the facts that an explanation needs of its model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from types import MethodType
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..adapters import ImageTower, Readout, Site, TextTower
from ..adapters.base import Foreign
from ..maps import infer_grid

ForwardFunction: TypeAlias = "Score | Foreign"
"""A score of ours, a module, or any other callable that returns scores ``(N,)`` or ``(N, T)``."""


@dataclass(frozen=True)
class Tokens:
    """What the rows of an attention stand for.

    Attributes:
        kind: ``"patches"`` of an image or ``"words"`` of a text.
        shape: rows and columns ``(h, w)`` of the patches, or ``(L,)`` for the tokens of a text.
        start: number of rows in front of them, such as class and register tokens, at least 0.
        left_out: number of tokens at the end of a text that have no row, since the score does not depend on them and the
            pass left them out (default 0); their value is 0.

    >>> Tokens("patches", (2, 3), 1).fold(torch.arange(7))
    tensor([[1, 2, 3],
            [4, 5, 6]])
    >>> Tokens("words", (4,), left_out=2).fold(torch.tensor([5, 6]))
    tensor([5, 6, 0, 0])
    """

    kind: Literal["patches", "words"]
    shape: tuple[int, ...]
    start: int = 0
    left_out: int = 0

    @property
    def content(self) -> slice:
        """The rows of the patches or words among all rows."""
        return slice(self.start, self.start + prod(self.shape) - self.left_out)

    def fold(self, values: Tensor) -> Tensor:
        """Values of all rows ``(..., rows)`` in the shape of what they stand for ``(..., *shape)``."""
        folded: Tensor = F.pad(values[..., self.content], (0, self.left_out)).unflatten(-1, self.shape)
        return folded


class Score(Protocol):
    """A number per example and target, with what is known of the attention behind it.

    >>> score: Score = BareScore(lambda images: images.mean(dim=(1, 2, 3)))
    >>> score.readout.kind, score.tokens(Site(nn.Identity()), torch.zeros(1, 3, 32, 32), rows=17)[1]
    ('unknown', Tokens(kind='patches', shape=(4, 4), start=1, left_out=0))
    """

    @property
    def sites(self) -> Sequence[Site]:
        """The attentions that can be explained, in the order in which they run."""

    @property
    def readout(self) -> Readout:
        """How the score leaves the tokens of the last site."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Inputs to scores ``(N, T)``."""

    def tokens(self, site: Site, inputs: Tensor, rows: int) -> tuple[Tokens | None, Tokens]:
        """What the queries and the keys of a site stand for.

        Args:
            site: the attention.
            inputs: the inputs of the score.
            rows: number of keys.

        Returns:
            The tokens of the queries, ``None`` if these are learned and stand for nothing, and the tokens of the keys.
        """


class ModelScore(nn.Module):
    """The base of the scores of this package: a model, with the facts that its adapter states.

    Scores are recognized by this class. Whatever attributes another callable happens to have, it is a :class:`BareScore`.

    Args:
        model: the model, used as it is and never changed.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle"], tokenizer)
    >>> score.readout.kind, len(score.layers), score.tokens(score.sites[-1], torch.rand(1, 3, 64, 64), rows=65)[1]
    ('token', 2, Tokens(kind='patches', shape=(8, 8), start=1, left_out=0))
    """

    model: nn.Module

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training  # a wrapper around a model in evaluation mode is in evaluation mode

    def __getattr__(self, name: str) -> Foreign:
        # nn.Module takes an AttributeError inside a property for a missing property; asking again shows what is missing.
        found = inspect.getattr_static(type(self), name, None)
        return found.fget(self) if isinstance(found, property) and found.fget else super().__getattr__(name)

    @property
    def tower(self) -> ImageTower | TextTower:
        """The facts of the encoder whose inputs are explained."""
        raise NotImplementedError

    @property
    def sites(self) -> Sequence[Site]:
        """The attentions that can be explained, in the order in which they run."""
        return self.tower.sites

    @property
    def readout(self) -> Readout:
        """How the score leaves the tokens of the last site."""
        return self.tower.readout

    @property
    def layers(self) -> list[nn.Module]:
        """The modules of the sites, the last one last. The paper explains the last for images, the last eight for texts."""
        return self.tower.layers

    def runs(self, forward: Callable[..., Tensor]) -> bool:
        """Whether a function is what this module runs, so that another way to the same scores may be taken.

        A derived class, another ``forward`` of this one module, or a hook on it may make them other scores.
        """
        return type(self).forward is forward and not any(vars(self).get(name) for name in ("forward", *_HOOKS))

    @property
    def directions(self) -> Tensor | None:
        """Unit vectors ``(T, D)`` whose products with :meth:`unit_features` are the scores; ``None`` for other scores."""
        return None

    def unit_features(self, inputs: Tensor) -> Tensor:
        """Inputs to the unit features ``(N, D)`` that the scores are linear in."""
        raise NotImplementedError

    @property
    def columns(self) -> int | None:
        """Number of targets of a score that needs a pass for each; ``None`` (default) where one pass shows all of them."""
        return None

    def aligned(self, index: Tensor) -> ModelScore:
        """Of a score that needs a pass for each target: that of each input with one target alone, ``(N, 1)``.

        Args:
            index: the target of each input, ``(N,)``.
        """
        raise NotImplementedError

    def front(self, inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The front of texts that their scores depend on, and a function from these to the scores of the whole texts.

        They are the inputs and the score itself wherever all positions count.
        """
        return inputs, self

    def tokens(self, site: Site, inputs: Tensor, rows: int) -> tuple[Tokens | None, Tokens]:
        """What the queries (``None`` for learned ones) and the keys of a site stand for; see :meth:`Score.tokens`."""
        keys = self._keys(inputs, rows)
        return (keys if site.kind == "self" else None), keys

    def _keys(self, inputs: Tensor, rows: int) -> Tokens:
        return words(inputs, rows)


_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class BareScore:
    """A callable of which nothing is known: a probe shows its patches, and its gradient which token it reads.

    Give one in place of the callable to state the patches where the probe cannot show them.

    Args:
        forward_func: returns scores ``(N,)`` or ``(N, T)``.
        grid: rows and columns of the patches among the keys of the layer; ``None`` (default) if the probe is to find them.
        start: number of keys in front of the patches, at least 0 (default 0); it counts with ``grid`` only.

    >>> BareScore(lambda images: images.mean(dim=(1, 2, 3)), grid=(2, 2), start=1).stated
    Tokens(kind='patches', shape=(2, 2), start=1, left_out=0)
    """

    def __init__(self, forward_func: ForwardFunction, grid: tuple[int, int] | None = None, start: int = 0) -> None:
        self.forward_func = forward_func
        self.stated = None if grid is None else Tokens("patches", grid, start)
        owner = forward_func.__self__ if isinstance(forward_func, MethodType) else forward_func
        self.model = owner if isinstance(owner, nn.Module) else None
        """The module that is called, as far as the callable shows it."""

    sites: Sequence[Site] = ()
    readout = Readout("unknown")

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The scores that the callable returns."""
        scores: Tensor = self.forward_func(*inputs)
        return scores

    def tokens(self, site: Site, inputs: Tensor, rows: int) -> tuple[Tokens | None, Tokens]:
        """The stated patches, or those that the number of keys suggests, or the words of a text; see :meth:`Score.tokens`.

        Raises:
            ValueError: if there are fewer keys than the stated patches need, or no patches fit their number.
        """
        if not inputs.is_floating_point():
            keys = words(inputs, rows)
        elif self.stated is None:
            start, grid = infer_grid(rows, inputs.shape[-2:])
            keys = Tokens("patches", grid, start)
        else:
            keys = self.stated
            if keys.content.stop > rows:
                raise ValueError(
                    f"grid: {keys.shape} patches behind {keys.start} tokens do not fit the layer's {rows} tokens"
                )
        return keys, keys


def describe(forward_func: ForwardFunction) -> ModelScore | BareScore:
    """A forward function as a score: one of ours is itself, also where its bound ``forward`` is given.

    Args:
        forward_func: a score of this package, a model, or any other callable that returns scores ``(N,)`` or ``(N, T)``.

    Returns:
        The score itself, or a :class:`BareScore` around the callable.

    >>> describe(lambda images: images.mean(dim=(1, 2, 3))).readout.kind
    'unknown'
    """
    if isinstance(forward_func, (ModelScore, BareScore)):
        return forward_func
    if isinstance(forward_func, MethodType) and isinstance(forward_func.__self__, ModelScore):
        owner = forward_func.__self__
        if forward_func in (owner.forward, owner.__call__):
            return owner
    return BareScore(forward_func)


def words(inputs: Tensor, rows: int) -> Tokens:
    """The tokens of texts ``(N, L)`` among the keys of an attention.

    Raises:
        ValueError: if there are fewer keys than tokens.
    """
    length = inputs.shape[1]
    if rows < length:
        raise ValueError(f"layer: it attends over {rows} tokens, but inputs hold {length}; is it a layer of the text tower?")
    return Tokens("words", (length,))


def unit_features(features: Tensor, name: str) -> Tensor:
    """Unit vectors of features ``(T, D)``: a detached copy, which is usable after inference mode and no one else can edit.

    Raises:
        ValueError: naming the parameter, if there is no vector or one that is not finite.
    """
    if len(features) == 0 or not torch.isfinite(features).all():
        raise ValueError(f"{name}: expected at least one feature vector, all finite, got shape {tuple(features.shape)}")
    with torch.inference_mode(False):
        return F.normalize(wide(features.detach().clone()), dim=-1)


def cosines(features: Tensor, others: Tensor) -> Tensor:
    """Cosines ``(N, T)`` of features ``(N, D)`` with unit vectors ``(T, D)``, in single precision at least."""
    return products(unit(features), others)


def unit(features: Tensor) -> Tensor:
    """Unit vectors ``(N, D)`` of features, in single precision at least, with their graph."""
    with torch.autocast(features.device.type, enabled=False):
        return F.normalize(wide(features), dim=-1)


def products(features: Tensor, others: Tensor) -> Tensor:
    """Products ``(N, T)`` of unit vectors ``(N, D)`` with others ``(T, D)``, in the precision of the first."""
    with torch.autocast(features.device.type, enabled=False):
        return features @ others.to(features.dtype).T


def wide(x: Tensor) -> Tensor:
    """The tensor in single precision at least, since the gradient of a cosine vanishes in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
