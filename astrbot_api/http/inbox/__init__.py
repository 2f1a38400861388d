"""``GET /chat/inbox``: the messages of all sessions of a user."""
