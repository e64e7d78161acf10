"""What is explained: numbers that say how well images and texts match, as forward functions for Captum."""

from ..adapters import Readout, Site
from ..adapters.tokenizers import Tokenizer
from ..adapters.training import check_mode
from .base import BareScore, ModelScore, Score, Tokens, describe
from .class_names import find_class
from .classes import ClassScore, columns_of
from .contrast import ContrastScore
from .image_text import ImageScore, ImageTextScore
from .match import MatchScore
from .targets import Columns, Target, Targets
from .text_image import TextImageScore
from .texts import empty_text, encode_text, tokenize

__all__ = [
    "BareScore",
    "ClassScore",
    "Columns",
    "ContrastScore",
    "ImageScore",
    "ImageTextScore",
    "MatchScore",
    "ModelScore",
    "Readout",
    "Score",
    "Site",
    "Target",
    "Targets",
    "TextImageScore",
    "Tokenizer",
    "Tokens",
    "check_mode",
    "columns_of",
    "describe",
    "empty_text",
    "encode_text",
    "find_class",
    "tokenize",
]
