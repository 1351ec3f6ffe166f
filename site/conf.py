"""Sphinx's configuration, for build.py, which calls it."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import comments, restructured

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "site" / "_build"

project = "VRNN Tutorial"
author = "The VRNN Tutorial authors"
copyright = "2026, The VRNN Tutorial authors"
(release,) = re.findall(r'__version__ = "(.+)"', (ROOT / "vrnn_tutorial" / "__init__.py").read_text(encoding="utf-8"))
language = "en"

extensions = ["myst_nb", "autoapi.extension", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]
suppress_warnings = ["autoapi.python_import_resolution"]  # of names that are passed on, which are shown where they are

# Notebooks are shown as they were committed.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4

# The module is read, not imported: the site's environment has no PyTorch.
autoapi_dirs = [str(ROOT / "vrnn_tutorial")]
autoapi_root = "api"
autoapi_add_toctree_entry = False
autoapi_options = ["members", "undoc-members", "show-inheritance", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_keep_files = False
default_role = "code"

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["static", str(BUILD / "source" / "_static")]
html_css_files = ["page.css"]
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}
html_extra_path = [str(BUILD / "extra")]
html_copy_source = False
html_use_index = False  # the search finds a name sooner
html_domain_indices = False
html_theme_options = {
    "navbar_persistent": [],  # the sidebar has the search
    "use_download_button": False,  # it would offer the page's notebook, which is not the committed one
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "extra_footer": "Under the MIT licence, except what is made of KanjiVG's drawings: the figures and outputs of "
    "chapter 7 and of its solutions, the models of its pen, and all else with that name are under CC BY-SA 3.0.",
}
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}  # whose parts would be loaded one by one


def setup(app):
    told = {}
    for path in (ROOT / "vrnn_tutorial").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        told |= comments(path, module)

    def rewrite(app, what, name, obj, options, lines):
        lines[:] = restructured(lines)

    def tell(app, what, name, obj, skip, options):
        if not obj.docstring and name in told:
            obj.docstring = "\n".join(restructured([told[name]]))

    app.connect("autodoc-process-docstring", rewrite, priority=100)  # before napoleon reads the sections
    app.connect("autoapi-skip-member", tell)
