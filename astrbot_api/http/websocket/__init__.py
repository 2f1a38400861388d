"""The WebSocket protocol: one connection, and those of this worker. The route is in http/chat."""
