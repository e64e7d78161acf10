"""Explanations as pictures: overlays, figures, colored words. Nothing in here fails on a zero, constant or signed map."""

from ..maps import Words, normalize_to
from .figures import Row, matrix, save, strip
from .overlay import overlay
from .words import words_figure, words_html

normalise_to = normalize_to  # deprecated spelling and place, kept for one version; now captum_gradeclip.maps.normalize_to

__all__ = ["Row", "Words", "matrix", "normalise_to", "overlay", "save", "strip", "words_figure", "words_html"]
