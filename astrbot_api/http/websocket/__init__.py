"""WebSocket connections, and their limits in one worker. The route is in http/chat."""
