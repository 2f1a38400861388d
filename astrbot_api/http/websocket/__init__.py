"""``GET /chat/ws``: turns over a WebSocket."""
