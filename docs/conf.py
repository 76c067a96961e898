"""The docs site: ``make docs`` builds it into docs/_build/html; pages are also read on GitHub."""

import os
import sys
from pathlib import Path

from stmmr._core.version import VERSION

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))
# kernels of tutorials find the real data by this variable, which the tests use too
os.environ.setdefault("STMMR_SHARED", str(HERE.parents[1] / "shared"))
os.environ["MATPLOTLIBRC"] = str(HERE / "_static")

project = "stmmr"
author = "The stmmr developers"
copyright = author  # noqa: A001  # the name that sphinx reads
version = release = VERSION
extensions = [
    "myst_nb",
    "mathml",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_ext", "_static", "_templates"]
html_title = f"stmmr {release}"
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "show_toc_level": 2,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
# pages without subpages: no empty list of pages at the left
LONE = ["index", "getting_started", "installing", "concepts", "choosing_parameters", "interpreting_results", "outputs"]
html_sidebars = {page: [] for page in [*LONE, "comparison", "faq", "glossary", "changes"]}

# pages: headings can be linked to as on GitHub; nothing is asked of a network
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# tutorials: an error, or a page of outputs that never comes, fails the build
nb_execution_mode = os.environ.get("STMMR_DOCS_EXECUTE", "cache")
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_output_stderr = "remove"
nb_merge_streams = True
if (Path(os.environ["STMMR_SHARED"]) / "data" / "visium_dlpfc_151673.h5ad").is_file():
    tags.add("realdata")  # noqa: F821  # sphinx puts it here
else:
    nb_execution_excludepatterns = ["tutorials/real_*"]

# API: one page for each name; what a signature says of types stands beside each parameter
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 70
default_role = "py:obj"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
# what is returned is told in sentences and by key, which napoleon would take for names and types
napoleon_custom_sections = ["Returns", "Yields", "Shapes"]

copybutton_exclude = ".linenos, .gp, .go"
