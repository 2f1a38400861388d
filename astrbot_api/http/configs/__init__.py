"""``/configs``: the available agents."""
