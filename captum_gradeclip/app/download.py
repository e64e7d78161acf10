"""What a visitor can take home: figures, numbers, and the program that makes them again."""

from __future__ import annotations

from pathlib import Path

from .. import show
from ..files import scratch
from ..report import figure, save
from ..show import ColorScale, Style
from .answer import Answer
from .models import Named
from .program import programs

_TAKEN = ("strip.png", "words.png", "maps.npz", "explanation.json")


def files_of(answer: Answer, named: Named, color_scale: ColorScale = "shared") -> list[tuple[str, bytes]]:
    """The files of an answer: of each method a PNG, a PDF, an NPZ and a JSON file, and the program.

    They are those of ``gradeclip explain``, see :func:`captum_gradeclip.report.save`.

    Args:
        answer: the answer.
        named: how its model is loaded.
        color_scale: whether the maps of a method have one scale (default) or each its own.

    Returns:
        Names and contents. Nothing is left on the disk.

    >>> from captum_gradeclip.adapters.loading import load
    >>> from captum_gradeclip.app import Query
    >>> from captum_gradeclip.app.answer import answer
    >>> from captum_gradeclip.app.picture import scene_picture
    >>> (found,) = answer(Query(("a red circle",), scene=3), load("scenes"), scene_picture(3), "scene 3")
    >>> [name for name, content in files_of(found, Named("scenes"))]
    ['GradECLIP-strip.png', 'GradECLIP-words.png', 'GradECLIP-maps.npz', 'GradECLIP-explanation.json', \
'GradECLIP-strip.pdf', 'explain.py']
    """
    look, about = Style(color_scale=color_scale), {"model": named.name, "pretrained": named.pretrained}
    files: list[tuple[str, bytes]] = []
    with scratch() as folder:
        for explanation in answer.explanations:
            method = explanation.method
            place = folder / method
            save(explanation, place, about, style=look)
            files += [(f"{method}-{name}", (place / name).read_bytes()) for name in _TAKEN if (place / name).exists()]
            page = Path(folder, f"{method}-strip.pdf")
            show.save(figure(explanation, 0, look), page, look.dpi)
            files.append((page.name, page.read_bytes()))
    return [*files, ("explain.py", programs(answer, named).encode())]
