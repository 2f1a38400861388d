"""``GET /chat/inbox``."""
