"""What the gallery adds to sphinx-gallery: figures of this package are shown, and notebooks have an address of their own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def drawings(block, block_vars, gallery_conf) -> str:
    """Shows a figure of this package or a picture that a cell ends with, as a notebook does; sphinx-gallery asks pyplot."""
    from PIL.Image import Image
    from sphinx_gallery.scrapers import figure_rst

    from captum_gradeclip.show import Drawing

    last = block_vars["example_globals"].get("___")
    if not isinstance(last, (Drawing, Image)):
        return ""
    path = next(block_vars["image_path_iterator"])
    Path(path).write_bytes(last._repr_png_())
    return figure_rst([path], gallery_conf["src_dir"])


def notebooks(app, exception) -> None:
    """Copies the notebooks to ``notebooks/``, where the badge of Colab finds them whatever else changes."""
    source = Path(app.srcdir) / "gallery"
    if exception is None and app.builder.format == "html" and source.is_dir():
        target = Path(app.outdir) / "notebooks"
        target.mkdir(exist_ok=True)
        for notebook in source.glob("*.ipynb"):
            shutil.copy(notebook, target)


def badge(app, docname: str, source: list[str]) -> None:
    """Puts a badge of Colab on top of each example, where the address of the repository is known, as on its own CI."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    name = docname.removeprefix("gallery/")
    if repository and docname.startswith("gallery/plot_"):
        address = f"https://colab.research.google.com/github/{repository}/blob/gh-pages/notebooks/{name}.ipynb"
        link = f"\n\n`Open this example in Colab <{address}>`__\n\n"
        head, mark, tail = source[0].partition(".. GENERATED FROM PYTHON SOURCE LINES")
        source[0] = head + link + mark + tail


def setup(app) -> dict[str, bool]:
    """Connects both to Sphinx."""
    app.connect("build-finished", notebooks)
    app.connect("source-read", badge)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
