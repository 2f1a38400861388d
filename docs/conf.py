"""Sphinx configuration of the documentation. Build it with ``make docs``."""

import sys
from configparser import ConfigParser
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

_METADATA = ConfigParser()
_METADATA.read(HERE.parent / "setup.cfg", encoding="utf-8")

project = "astrbot-api"
author = copyright = _METADATA["metadata"]["author"]
version = release = _METADATA["metadata"]["version"]

# The last five are in _ext/ and read the code.
extensions = [
    "sphinx.ext.autodoc",
    "sphinx_click",
    "error_table",
    "event_list",
    "route_list",
    "settings_table",
    "limits_table",
]
exclude_patterns = ["_build", "_ext"]

# Every reference must resolve, except these, which have no page here.
nitpicky = True
nitpick_ignore_regex = [
    # The standard library and other packages. The build does not use the network.
    (r"py:.*", r"(collections|pathlib|threading|typing)\b.*"),
    (r"py:.*", r"(flask|marshmallow|ma|peewee)\b.*|Flask|Request"),
    # Our own types that appear in annotations, but that users do not need.
    (
        r"py:.*",
        r"(.*\.)?(AdapterModule|Authenticate|Store|FakeRequest|PluginError|PlatformError|build|ERROR_CODES|"
        r"QueuePosition|Version|Rewind|MediaDelta|Finished)",
    ),
    (
        r"py:.*",
        r"astrbot_api\.(im\.(botfile|registry)|config\.secrets|deliveries|files\.storage|runtime)\b.*",
    ),
]

# Otherwise "--random" becomes a dash.
smartquotes = False

# Show names as in "from astrbot_api import …", without their module.
add_module_names = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = "astrbot-api"
html_copy_source = False
html_show_sphinx = False
# Examples declare their language: shell, TOML or JSON. The rest is plain text.
highlight_language = "none"
