"""Starts the MCP sidecar.

::

    python -P astrbot_api/sidecar/mcp_main.py --socket PATH [--until-eof]

Run by its path it loads no more of this package than it needs: the rest
would be 30 MB and half a second for nothing.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

if __name__ == "__main__":
    _folder = Path(__file__).resolve().parent
    for _name, _path in (("astrbot_api", _folder.parent), ("astrbot_api.sidecar", _folder)):
        if _name not in sys.modules:
            _package = types.ModuleType(_name)
            _package.__path__ = [str(_path)]
            sys.modules[_name] = _package

    from astrbot_api.sidecar.mcp_process import main

    sys.exit(main())
