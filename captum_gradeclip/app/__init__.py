"""The page: pictures, texts and methods to choose in a browser, and the study whether maps help people foretell scores.

Everything but the files ``page``, ``study_page`` and ``server`` is plain Python and needs no Gradio.
"""

from .answer import Answer, answer
from .limits import Limits
from .models import Models, Named
from .query import Query

__all__ = ["Answer", "Limits", "Models", "Named", "Query", "answer"]
