from importlib.metadata import version as installed_version

project = "l0ref"
author = "The l0ref developers"
project_copyright = "2026, The l0ref developers"
release = version = installed_version("l0ref")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_title = f"l0ref {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
nitpicky = False
