"""How Sphinx makes these pages: ``make docs``."""

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

# The last five are in _ext/: they read the code.
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

# Every reference must lead somewhere; these have no page here.
nitpicky = True
nitpick_ignore_regex = [
    # The standard library and what we use of others: no network is asked for their pages.
    (r"py:.*", r"(collections|pathlib|threading|typing)\b.*"),
    (r"py:.*", r"(flask|marshmallow|ma|peewee)\b.*|Flask|Request"),
    # Ours, which annotations name and users do not need.
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

# "--random" must not become a dash.
smartquotes = False

# Names stand as in "from astrbot_api import …", whatever module has them.
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
# Most examples are shell, TOML or JSON, and say so; the rest is text.
highlight_language = "none"
