"""Explanations as pictures: overlays, figures, colored words. Nothing in here fails on a zero, constant or signed map."""

from ..maps import Words, normalize_to
from .fonts import PLAIN
from .matrix import Row, matrix
from .overlay import overlay
from .page import Drawing, own_settings, save
from .regions import regions
from .scale import Scale, flat, palette
from .strip import Strip, strip, strips
from .style import ColorScale, Format, Style
from .widget import Caption, View, document, widget
from .words import colored, legend_of, words_figure, words_html

normalise_to = normalize_to  # deprecated spelling and place, kept for one version; now captum_gradeclip.maps.normalize_to

__all__ = [
    "PLAIN",
    "Caption",
    "ColorScale",
    "Drawing",
    "Format",
    "Row",
    "Scale",
    "Strip",
    "Style",
    "View",
    "Words",
    "colored",
    "document",
    "flat",
    "legend_of",
    "matrix",
    "normalise_to",
    "overlay",
    "own_settings",
    "palette",
    "regions",
    "save",
    "strip",
    "strips",
    "widget",
    "words_figure",
    "words_html",
]
