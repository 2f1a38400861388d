"""``/hooks``: where messengers deliver messages."""
