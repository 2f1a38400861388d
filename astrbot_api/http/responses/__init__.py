"""``/openai/responses`` and ``/openai/conversations``: the same runs as OpenAI's Responses."""
