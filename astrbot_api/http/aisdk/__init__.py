"""``/aisdk``: the server's agents for ``useChat`` and other clients of Vercel's AI SDK."""
