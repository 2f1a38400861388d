"""``/hooks``: webhooks that messengers call."""
