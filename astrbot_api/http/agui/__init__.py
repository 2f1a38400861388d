"""``/agui``: the server's agents for clients of the AG-UI protocol."""
