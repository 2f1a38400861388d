"""``/configs``: which agents there are."""
