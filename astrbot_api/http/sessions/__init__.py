"""``/chat/sessions``: the conversations of a username."""
