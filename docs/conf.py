"""Settings of the documentation site: `make docs` builds it, offline, into docs/_build/html."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from sparcell import __version__

project = "sparcell"
author = "The sparcell authors"
copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "docstrings",
    "links",
    "mathml",
    "reference",
]
smartquotes = False  # quotes and -- are often code: --out, not –out
toc_object_entries_show_parents = "hide"
exclude_patterns = ["_build", "_templates", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

# Markdown and notebooks. The outputs of notebooks are committed; `make tutorials` runs them again.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True

# API pages, made from docstrings.
autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "all"
default_role = "literal"  # a name in single backticks; docstrings.py makes links of those that have a page
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Writes"]

nitpick_ignore_regex = [("py:(class|obj|exc)", ".*")]  # types of other libraries, whose sites are not asked

# Nothing is loaded from the network. Formulas become MathML when the page is built (_ext/mathml.py).
html_math_renderer = "mathml"
html_theme = "sphinx_book_theme"
html_title = f"sparcell {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],  # search stands in the sidebar
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
