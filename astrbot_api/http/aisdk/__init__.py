"""``/aisdk``: the same agents for ``useChat`` and other clients of Vercel's AI SDK."""
