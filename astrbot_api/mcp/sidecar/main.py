"""Entry point of the MCP sidecar.

::

    python -P astrbot_api/mcp/sidecar/main.py --socket PATH [--until-eof]

It is run by its path and adds its package to ``sys.path``, so that the package
need not be installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

    from astrbot_api.mcp.sidecar.process import main

    sys.exit(main())
