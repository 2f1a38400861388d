"""The asyncio process that owns the sessions of the MCP servers; ``serve`` supervises it."""
