# Temporary: the interface of attr that is on its way, on the one that is there.  # mypy: ignore-errors
from __future__ import annotations
from contextlib import contextmanager
from types import SimpleNamespace
import time
import torch
from ..attr import METHODS as _OLD, GradECLIP
from ..attr.comparison import CAPTUM as _CAPTUM, find_method as _find
from ..attr.base import NotDefinedError
from ..attention import LayerError
from .. import adapters


def _info(name, image, text, disc, needs=()):
    return SimpleNamespace(name=name, image=image, text=text, class_discriminative=disc, needs=needs)


for k in _OLD:
    k.info = _info(k.about.name, k.about.image, k.about.text, k.about.needs_text)
    k.for_score = k.of
METHODS = _OLD
Method = object


def _captum(name):
    class C:
        info = _info(name, True, False, True)

        def __init__(self, score):
            self.score = score

        @classmethod
        def for_score(cls, score):
            return cls(score)

        def attribute(self, inputs, target=None, **o):
            return _CAPTUM[name](self.score, inputs, target, o)

        def attribute_targets(self, inputs, targets, **o):
            return torch.cat([_CAPTUM[name](self.score, inputs, [t] * len(inputs), o) for t in targets], 1)

    C.__name__ = name
    return C


CAPTUM = tuple(_captum(n) for n in _CAPTUM)


def _shape(score, inputs):
    return (1, *score.grid(inputs)) if inputs.is_floating_point() else tuple(inputs.shape[1:])


class GradECLIPWithoutWeight:
    info = _info("Grad-ECLIP w/o weight", True, True, True)

    def __init__(self, score):
        self.m = GradECLIP.of(score)

    @classmethod
    def for_score(cls, score):
        return cls(score)

    def attribute(self, inputs, target=None):
        return self.m.attribute(inputs, target=target, spatial_weight="none")

    def attribute_targets(self, inputs, targets):
        return self.m.attribute_targets(inputs, targets, spatial_weight="none")


class RandomMap:
    info = _info("random map", True, True, False, ("seeds",))

    def __init__(self, score):
        self.score = score

    @classmethod
    def for_score(cls, score):
        return cls(score)

    def attribute(self, inputs, target=None, seeds=()):
        return torch.stack(
            [torch.rand(_shape(self.score, inputs), generator=torch.Generator().manual_seed(s)) for s in seeds]
        )


class CenterPrior:
    info = _info("center prior", True, False, False)

    def __init__(self, score):
        self.score = score

    @classmethod
    def for_score(cls, score):
        return cls(score)

    def attribute(self, inputs, target=None):
        _, rows, columns = _shape(self.score, inputs)
        y, x = (torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in (rows, columns))
        prior = torch.exp(-2 * (y[:, None] ** 2 + x[None] ** 2))
        return prior.expand(len(inputs), 1, -1, -1).to(inputs.device)


class Oracle:
    info = _info("oracle (mask)", True, False, True, ("masks",))

    def __init__(self, score):
        self.score = score

    @classmethod
    def for_score(cls, score):
        return cls(score)

    def attribute(self, inputs, target=None, masks=None):
        from scipy.ndimage import distance_transform_edt

        maps = []
        for mask in masks == 1:
            away = torch.from_numpy(distance_transform_edt(~mask.numpy())).float()
            maps.append(torch.where(mask, 1.0, 1e-6 * (1 - away / away.max().clamp(min=1))))
        return torch.stack(maps)[:, None].to(inputs.device)


BASELINES = (GradECLIPWithoutWeight, RandomMap, CenterPrior, Oracle)


def _plain(s):
    return "".join(c for c in s.lower() if c.isalnum())


def find_method(m):
    if not isinstance(m, str):
        return m
    for k in (*METHODS, *CAPTUM, *BASELINES):
        if _plain(m) in (_plain(k.__name__), _plain(k.info.name)):
            return k
    raise ValueError(f"methods: there is no {m!r}; known are ...")


class Stopwatch:
    def __init__(self, device=None):
        self.device = torch.device(device or "cpu")

    def _now(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def __enter__(self):
        self.t = self._now()
        return self

    def __exit__(self, *a):
        self.seconds = self._now() - self.t


def wrap_refusals(error):
    """Old refusals that become NotDefinedError."""
    return isinstance(error, (NotDefinedError, LayerError, adapters.UnsupportedModelError))


from ..attr.m2ib import _encode_wrapped as encode_wrapped


def is_pool(score):
    return getattr(score, "pooled", False)
