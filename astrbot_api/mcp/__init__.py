"""Tools and prompts of MCP servers in the workers.

The sidecar process owns the sessions (:mod:`astrbot_api.mcp.sidecar.process`).
This package is its client, which works with greenlets and threads.
"""
