"""``/hooks``: what messengers tell."""
