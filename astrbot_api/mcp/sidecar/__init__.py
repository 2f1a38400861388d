"""The MCP sidecar: an asyncio process with the sessions of all MCP servers."""
