"""``/mcp``: the agents as a server of the Model Context Protocol (MCP), over streamable HTTP."""
