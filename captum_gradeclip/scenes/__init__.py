"""The offline world: rendered scenes with known truth, captions of them, and a small CLIP that was trained on both."""

from .captions import Caption, Phrase, holds, name, name_all, sample_caption, truth, with_article
from .dataset import SceneDataset, SceneItem
from .draw import draw
from .model import load, preprocess
from .vocabulary import tokenizer
from .world import COLOURS, MATERIALS, PAIRS, PLACES, SHAPES, SIZES, Scene, Thing, sample_scene, split_of

__all__ = [
    "COLOURS",
    "MATERIALS",
    "PAIRS",
    "PLACES",
    "SHAPES",
    "SIZES",
    "Caption",
    "Phrase",
    "Scene",
    "SceneDataset",
    "SceneItem",
    "Thing",
    "draw",
    "holds",
    "load",
    "name",
    "name_all",
    "preprocess",
    "sample_caption",
    "sample_scene",
    "split_of",
    "tokenizer",
    "truth",
    "with_article",
]
