"""The documentation site: `python -m sphinx -W -b html docs docs/_build` from the repository."""

import pathlib
import sys
import tomllib

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_site"))

project = "collapse_jax"
author = "the collapse_jax developers"
_toml = (pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
release = version = tomllib.loads(_toml)["project"]["version"]
html_title = f"collapse_jax {release}"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "reference",
    "published",
    "metric_formulas",
    "gallery",
    "mathml",
]
exclude_patterns = ["_build", "_site"]
templates_path = []

# Headings of other pages can be linked, as GitHub does.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "dollarmath"]
# The tutorials are run as the site is built; what has not changed is not run again.
nb_execution_mode = "cache"
nb_execution_in_temp = True  # notebooks write their files there
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True

# Docstrings are plain text in Google's style: one backtick is code.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
# Excerpts are read from the pages, which a browser refuses where they are opened as files.
html_show_search_summary = False
# No page needs the network: no font, no script, no formula from elsewhere.
html_theme_options = {"source_repository": None, "top_of_page_buttons": []}
suppress_warnings = ["mystnb.unknown_mime_type"]
