"""``/mcp``: the server's agents over the Model Context Protocol (MCP), with streamable HTTP."""
