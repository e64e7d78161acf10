"""The core's interface on today's core; goes when it lands."""
from __future__ import annotations
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
import torch
from .attention import Interception, model_heads, single_head
from .attr import comparison, METHODS as OLD
from .attr.base import NotDefinedError  # noqa: F401
Words = list[tuple[str, float]]
@dataclass
class Outcome:
    method: str
    name: str
    maps: Any
    explained_scores: Any
    seconds: float
    options: Any
    refused: Any = None
    class_discriminative: bool = True
class Made:
    def __init__(self, kind, method, score):
        self.kind, self.method, self.score = kind, method, score
        self.layer = getattr(method, "layer", [])
    def outcome(self, inputs, targets=None, **options):
        t = time.perf_counter()
        maps = self.method.attribute_targets(inputs, targets, **options)
        rule = single_head if options.get("heads", "single") == "single" else model_heads
        with torch.no_grad(), Interception(self.layer, rule):
            scores = self.score(inputs)
        if targets is not None: scores = scores[:, list(targets)]
        return Outcome(self.kind.__name__, self.kind.info.name, maps, scores, time.perf_counter()-t, options)
class Kind:
    def __init__(self, old):
        self.old, self.__name__ = old, old.__name__
        a = old.about
        self.info = SimpleNamespace(name=a.name, image=a.image, text=a.text, class_discriminative=a.needs_text)
        self.Options = None
    def for_score(self, score):
        return Made(self, self.old.of(score), score)
    def __call__(self, score, layers):
        return Made(self, self.old(score, layers), score)
def find_method(method):
    return method if isinstance(method, Kind) else Kind(comparison.find_method(method))
METHODS = [Kind(k) for k in OLD]
Method = Made
def shares(words):
    total = sum(weight for _, weight in words)
    return [(word, weight / total if total > 0 else 0.0) for word, weight in words]
# ---- pretend that the core has landed, by patching the old modules in place
import sys, types, dataclasses
from . import attr as _attr, maps as _maps
from .attr.base import TokenAttribution
from .attr.grad_eclip import Heads, SpatialWeight
@dataclasses.dataclass(frozen=True)
class _GOptions:
    heads: Heads = "single"
    spatial_weight: SpatialWeight = "loosened"
_attr.GradECLIP.info = SimpleNamespace(name="Grad-ECLIP", layers=1, text_layers=8, text=True)
_attr.GradECLIP.Options = _GOptions
_maps.shares = shares
from . import scores as _scores
from .prompts import imagenet_templates
_scores.imagenet_templates = imagenet_templates
_options = types.ModuleType("captum_gradeclip.attr.options")
from typing import get_args as _ga
from typing import get_origin as _go, Literal
_options.literals = lambda k: _ga(k) if _go(k) is Literal else ()
sys.modules[_options.__name__] = _options
_reg = types.ModuleType("captum_gradeclip.attr.registry")
_reg.METHODS = OLD
_reg.CAPTUM = [type(n, (), {}) for n in comparison.CAPTUM]
_reg.BASELINES = []
def _fm(m):
    f = comparison.find_method(m)
    return type(f, (), {}) if isinstance(f, str) else f
_reg.find_method = _fm
_reg.find_methods = comparison.find_methods
sys.modules[_reg.__name__] = _reg
_old_compare = comparison.compare
def _compare(*a, **k):
    out = []
    for one in _old_compare(*a, **k):
        out.append(Outcome(one.method, one.method, one.maps, None, one.seconds, one.options, one.refused, one.needs_text))
    return out
_attr.compare = _compare
