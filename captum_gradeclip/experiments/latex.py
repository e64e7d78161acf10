"""A table as LaTeX that fits a column of a paper, whatever the number of its own columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from ..quoting import legible

COLUMN = 234.0
"""The width in points of the narrowest columns of conferences, 3.25 inches."""
_GAP = 3.0
"""Points on each side of a column of the table; LaTeX leaves 6 unless it is told."""
_BOLD = 1.2
"""How much wider letters and digits are in bold, at most."""
_TEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "$&%#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    }
)


def tabular(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], best: Sequence[int | None]) -> str:
    r"""A table for the package ``booktabs``, at most :data:`COLUMN` points wide at 10 points.

    Headings of several words are broken into lines. Columns that do not fit beside the others follow in further blocks
    below, in which each row has its name again.

    Args:
        title: a comment above the table.
        headings: names of the C columns of figures.
        rows: the cells of each row, its name first, ``1 + C`` strings.
        best: for each column the number of the row whose figure is bold, or ``None``.

    >>> print(tabular("a title", ["PG"], [["Grad-ECLIP", "0.5"], ["GAME", "0.4"]], [0]))
    % a title
    {\setlength{\tabcolsep}{3pt}
    \begin{tabular}{@{}lc@{}}
    \toprule
     & PG \\
    \midrule
    Grad-ECLIP & \textbf{0.5} \\
    GAME & 0.4 \\
    \bottomrule
    \end{tabular}}
    <BLANKLINE>
    """
    stacked = [_stacked(heading, [row[1 + place] for row in rows]) for place, heading in enumerate(headings)]
    widths = [
        max([*map(width, stack), *(_BOLD * width(row[1 + place]) for row in rows)]) + 2 * _GAP
        for place, stack in enumerate(stacked)
    ]
    names = max(width(name) for name, *_ in rows) if rows else 0.0
    kind = "l" if names <= COLUMN / 2 else f"p{{{COLUMN / 2:g}pt}}"  # names that are longer are broken into lines
    blocks = _blocks(widths, COLUMN - min(names, COLUMN / 2))
    lines = [f"% {legible(title)}", rf"{{\setlength{{\tabcolsep}}{{{_GAP:g}pt}}"]
    lines += [rf"\begin{{tabular}}{{@{{}}{kind}{'c' * max(map(len, blocks))}@{{}}}}", r"\toprule"]
    for number, block in enumerate(blocks):
        lines += [r"\midrule"] if number else []
        lines += [_line(["", *(_heading(stacked[place]) for place in block)]), r"\midrule"]
        for row, (name, *cells) in enumerate(rows):
            lines.append(_line([in_latex(name), *(_cell(cells[place], best[place] == row) for place in block)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", ""])


def width(text: str) -> float:
    """The width in points of a text in LaTeX's own font at 10 points; signs that are not ASCII count as wide letters.

    >>> round(width("0.123"), 1)
    22.8
    """
    plain = re.sub(r"[^ -~]", "M", text)
    measured, _, _ = text_to_path.get_text_width_height_descent(plain, FontProperties(family="cmr10", size=10), False)
    return float(measured)


def in_latex(text: str) -> str:
    r"""A name in which every character that is a command of TeX stands for itself.

    >>> print(in_latex("$5 & 6_7 \\ #1 {100 %}"))
    \$5 \& 6\_7 \textbackslash{} \#1 \{100 \%\}
    """
    return legible(text).translate(_TEX)


def _blocks(widths: Sequence[float], left: float) -> list[list[int]]:
    """The numbers of the columns in each block, as many side by side as there is room for; blocks share their columns."""
    places = list(range(len(widths)))
    for count in range(len(widths), 0, -1):
        blocks = [places[start : start + count] for start in range(0, len(places), count)]
        if sum(max(widths[block[k]] for block in blocks if k < len(block)) for k in range(count)) <= left:
            return blocks
    return [[place] for place in places]


def _stacked(heading: str, cells: Sequence[str]) -> list[str]:
    """A heading in lines that are no longer than the cells below it, or its longest word."""
    longest = max(map(len, (*cells, *legible(heading).split(), "-")))
    return textwrap.wrap(legible(heading), longest, break_long_words=False, break_on_hyphens=False) or [""]


def _heading(lines: Sequence[str]) -> str:
    told = r"\\".join(map(in_latex, lines))
    return told if len(lines) == 1 else rf"\shortstack{{{told}}}"


def _cell(text: str, bold: bool) -> str:
    return rf"\textbf{{{text}}}" if bold else text


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
