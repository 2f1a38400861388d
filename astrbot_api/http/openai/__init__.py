"""``/openai``: the server's agents for clients of OpenAI's API."""
