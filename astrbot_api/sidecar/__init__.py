"""The process beside the workers: what there must be one of, not one a worker.

:mod:`.model` serves the embedded model; :mod:`.mcp_process` owns the sessions
of the MCP servers. ``astrbot-api serve`` starts, supervises and stops them.
"""
