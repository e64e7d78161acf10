"""How the pages are built: ``python -m sphinx -W --keep-going -n -b html docs docs/_build/html``.

Nothing is fetched: formulas become MathML, which browsers draw by themselves, the theme carries its fonts and
scripts, and the examples run on the CLIP inside the package.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]

import stations  # noqa: E402
from gallery import drawings  # noqa: E402

import captum_gradeclip  # noqa: E402

project = "captum_gradeclip"
author = "the developers of captum_gradeclip"
copyright = author
version = release = captum_gradeclip.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "myst_parser",
    "mathml",
    "stations",
    "tables",
    "gallery",
]
exclude_patterns = [
    "_build",
    "_ext",
    "generated/*.inc.md",
    "gallery/**/*.ipynb",
    "gallery/**/*.py",
    "sg_execution_times.rst",
]
nitpicky = True
# Names of other packages have no pages here: torch, captum, PIL, matplotlib and what Python itself calls its types.
nitpick_ignore_regex = [(r"py:.*", pattern) for pattern in stations.FOREIGN]

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# GitHub shows these pages as well, and knows no other language for blocks that are no program.
myst_highlight_code_blocks = True
suppress_warnings = ["config.cache"]  # the scraper below is a function, which cannot be kept between builds

html_extra_path = ["../llms.txt"]  # what programs that write code should know

# Docstrings
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "notes_style")]
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

# The gallery
sphinx_gallery_conf = {
    "examples_dirs": [str(DOCS.parent / "examples")],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"plot_.*\.py",
    "within_subsection_order": "ExampleTitleSortKey",
    "image_scrapers": (drawings, "matplotlib"),
    "capture_repr": ("_repr_html_", "__repr__"),
    "ignore_repr_types": r"captum_gradeclip\.show|PIL\.|matplotlib\.(text|axes|image|legend|lines)",
    "write_computation_times": False,  # that page loads scripts from elsewhere
    "show_memory": False,
    "plot_gallery": "True",
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "doc_module": ("captum_gradeclip",),
    "backreferences_dir": "generated/backreferences",
    "inspect_global_variables": True,
    "min_reported_time": 30,
    "remove_config_comments": True,
    "nested_sections": False,
    "download_all_examples": False,
    "first_notebook_cell": "# In a fresh environment: %pip install captum_gradeclip",
}

# Pages
html_theme = "pydata_sphinx_theme"
html_title = "captum_gradeclip"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
# Pages without pages below them have nothing to show at the side, and wide tables.
ALONE = (
    "index getting-started which-method what-a-map-is methods one-equation models metrics pictures benchmark speed recipe"
    " glossary whose-score guards"
)
html_sidebars = {page: [] for page in (*ALONE.split(), "bibliography", "contributing", "security", "changelog")}
html_theme_options = {
    "navigation_with_keys": False,
    "show_nav_level": 1,
    "header_links_before_dropdown": 4,
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "search_as_you_type": True,
}
