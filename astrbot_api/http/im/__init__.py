"""``/im``: the bots."""
