"""``POST /chat`` and ``GET /chat/ws``: turns as streams of events."""
