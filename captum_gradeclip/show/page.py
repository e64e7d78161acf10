"""The page: axes and texts at places measured in inches, which make a figure of exactly that size."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..files import replacing
from .fonts import height, lettering, wrap
from .style import MARGIN

GRAY = "#595959"
"""The color of what is less important, which is still easily read on white."""
_MOST_PIXELS = 60_000  # matplotlib draws less than 2**16
_SMALL = 7.0  # points
_LOCK = RLock()  # two threads that change the settings and put them back by turns would leave them changed


@contextmanager
def own_settings() -> Iterator[None]:
    """Context in which matplotlib has its own settings, whatever those of the user are, who may not have LaTeX for instance.

    >>> with own_settings():
    ...     matplotlib.rcParams["text.usetex"]
    False
    """
    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        # Letters stay letters in a PDF file, which journals ask for, and become shapes in SVG, which need no fonts there.
        matplotlib.rcParams.update({"pdf.fonttype": 42, "svg.fonttype": "path"})
        yield


class Drawing(Figure):
    """A figure of matplotlib that belongs to no window, has the size that was asked for, and that a notebook shows.

    The arguments are those of :class:`matplotlib.figure.Figure`.

    >>> figure = Drawing(figsize=(1, 1), dpi=50)
    >>> figure.get_size_inches().tolist(), figure._repr_png_()[1:4]
    ([1.0, 1.0], b'PNG')
    """

    def _repr_png_(self) -> bytes:
        """What a notebook shows, which asks objects for it; for other figures it has to import pyplot first."""
        file = io.BytesIO()
        with own_settings():
            self.savefig(file, format="png")
        return file.getvalue()


class Page:
    """What is to be drawn, at places in inches from the left and from above.

    Args:
        width: width of the page in inches, without its border.

    >>> page = Page(2.0)
    >>> page.text("a dog", 0.0, 0.0, 9)
    >>> page.drawing(0.5, dpi=100).get_size_inches().round(2).tolist()
    [2.12, 0.62]
    """

    def __init__(self, width: float) -> None:
        self.width = width
        self._axes: list[tuple[bool, tuple[float, float, float, float], Callable[[Axes], None]]] = []
        self._texts: list[tuple[str, float, float, float, str, str]] = []

    def axes(
        self, left: float, top: float, width: float, height: float, draw: Callable[[Axes], None], panel: bool = False
    ) -> None:
        """Places axes without ticks and border, on which a function draws once the size of the page is known.

        Args:
            left: left edge in inches.
            top: upper edge.
            width: width.
            height: height.
            draw: what draws on them.
            panel: whether they are a panel; these are the first axes of the figure (default false).
        """
        self._axes.append((panel, (left, top, width, height), draw))

    def text(
        self, text: str | Sequence[str], left: float, top: float, size: float, align: str = "left", color: str = "black"
    ) -> None:
        """Places a text, or lines of it.

        Args:
            text: the text, see :func:`captum_gradeclip.show.fonts.shown`.
            left: where it begins, or its center or end, by ``align``.
            top: upper edge of its first line.
            size: size of its letters in points.
            align: ``"left"`` (default), ``"center"`` or ``"right"``.
            color: a color of matplotlib (default black).
        """
        lines = [text] if isinstance(text, str) else text
        self._texts += [(one, left, top + height(n, size), size, align, color) for n, one in enumerate(lines)]

    def note(self, text: str, top: float) -> float:
        """Places a small note over the whole width, in as many lines as it needs, and returns where it ends.

        Args:
            text: the note; an empty one takes no place.
            top: its upper edge.
        """
        lines = wrap(text, _SMALL, self.width) if text else []
        self.text(lines, 0.0, top, _SMALL, color=GRAY)
        return top + height(len(lines), _SMALL)

    def drawing(self, bottom: float, dpi: float) -> Drawing:
        """The figure.

        Args:
            bottom: height of the page in inches, without its border.
            dpi: dots per inch.
        """
        wide, high = self.width + 2 * MARGIN, bottom + 2 * MARGIN
        figure = Drawing(figsize=(wide, high), dpi=dpi, facecolor="white")
        for _, (left, top, width, tall), draw in sorted(self._axes, key=lambda one: not one[0]):
            axis = figure.add_axes(
                ((left + MARGIN) / wide, 1 - (top + tall + MARGIN) / high, width / wide, tall / high), frameon=False
            )
            axis.set_axis_off()
            draw(axis)
        for text, x, y, size, align, color in self._texts:
            shown = figure.text((x + MARGIN) / wide, 1 - (y + size / 72 + MARGIN) / high, text, color=color)
            shown.update({"ha": align, **lettering(text, size)})
        return figure


def save(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Writes a figure to a file, which is whole or not there; no window is opened.

    Args:
        figure: any figure of matplotlib. Those of this package keep their size; of others, the empty border is cut off.
        path: the file, whose ending chooses the format, for example ``.png`` (default) or ``.pdf``.
        dpi: dots per inch (default 150); fewer where the figure would be larger than what can be drawn.

    Raises:
        OSError: if the file cannot be written.
        ValueError: for an ending of a format that matplotlib does not know.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Drawing(figsize=(1, 1)), Path(folder) / "figure.pdf")
    ...     (Path(folder) / "figure.pdf").read_bytes()[:4]
    b'%PDF'
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".png")
    dpi = max(1, min(dpi, int(_MOST_PIXELS / max(figure.get_size_inches()))))
    border = None if isinstance(figure, Drawing) else "tight"
    with own_settings(), replacing(path) as part:
        figure.savefig(part, dpi=dpi, bbox_inches=border, pad_inches=0.08)
