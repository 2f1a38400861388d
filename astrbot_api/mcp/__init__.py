"""The tools of MCP servers, as the workers see them.

The sessions are the sidecar's (:mod:`astrbot_api.mcp.sidecar.process`); here
is its client, for greenlets and for threads.
"""
