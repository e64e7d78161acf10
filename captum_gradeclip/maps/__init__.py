"""From tokens to what people see: the patch grid, the pixels of the original picture, the words of a text.

Nothing in here knows a model: all functions take tensors and numbers, and import nothing of the package but the checks of
arguments and of the names that were others before.
"""

from ..former import former_names
from .ensemble import ensemble
from .frame import Frame, to_pixels
from .grid import MOST_PREFIX_OTHERWISE, MOST_PREFIX_TOKENS, infer_grid, nearest_multiple, possible_grids
from .over_targets import ranks, strongest
from .parts import by_parts
from .points import point_prompts
from .stretch import normalize, normalize_to, shares, stretched
from .words import Words, merge_regions, merge_words

__all__ = [
    "MOST_PREFIX_OTHERWISE",
    "MOST_PREFIX_TOKENS",
    "Frame",
    "Words",
    "by_parts",
    "ensemble",
    "infer_grid",
    "merge_regions",
    "merge_words",
    "nearest_multiple",
    "normalize",
    "normalize_to",
    "point_prompts",
    "possible_grids",
    "ranks",
    "shares",
    "stretched",
    "strongest",
    "to_pixels",
]

__getattr__ = former_names(__name__, {"normalise": "normalize"})
