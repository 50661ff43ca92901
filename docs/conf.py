import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from gallery import COPIES, copy_examples

project = "l0ref"
author = "The l0ref developers"
project_copyright = "2026, The l0ref developers"
release = version = installed_version("l0ref")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_examples"]
html_theme = "furo"
html_static_path = ["_static"]
html_title = f"l0ref {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
nitpicky = False

copy_examples()
sphinx_gallery_conf = {
    "examples_dirs": str(COPIES),
    "gallery_dirs": "gallery",
    "filename_pattern": r"/ex\d\d_",
    "image_scrapers": ("gallery.pictures",),
    "reset_modules": (),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "plot_gallery": True,
}
