"""``/agui``: the same agents for clients of the AG-UI protocol."""
