"""Formulas as MathML, which every browser draws by itself: no script, no font and no network is needed to read a page."""

from __future__ import annotations

import re

_SIZES = re.compile(r"\\[bB]igg?[lrm]?(?![a-zA-Z])")  # MathML makes brackets as high as what stands in them


def mathml(code: str, block: bool) -> str:
    r"""The MathML of a formula in LaTeX.

    >>> mathml(r"\Big(\frac{a}{b}\Big)", block=False).count("<mfrac>")
    1
    """
    from docutils.utils.math.latex2mathml import tex2mathml

    return tex2mathml(_SIZES.sub("", " ".join(code.split())), as_block=block)


def _inline(self, node) -> None:
    self.body.append(mathml(node.astext(), block=False))
    from docutils.nodes import SkipNode

    raise SkipNode


def _block(self, node) -> None:
    self.body.append(self.starttag(node, "div", CLASS="formula"))
    self.body.append(mathml(node.astext(), block=True) + "</div>")
    from docutils.nodes import SkipNode

    raise SkipNode


def setup(app) -> dict[str, bool]:
    """Declares the renderer to Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
