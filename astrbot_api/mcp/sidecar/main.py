"""Starts the MCP sidecar.

::

    python -P astrbot_api/mcp/sidecar/main.py --socket PATH [--until-eof]

Run by its path it finds the package that it is part of, installed or not.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

    from astrbot_api.mcp.sidecar.process import main

    sys.exit(main())
