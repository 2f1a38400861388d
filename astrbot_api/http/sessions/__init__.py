"""``/chat/sessions``: the sessions of a username and their messages."""
