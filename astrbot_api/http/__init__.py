"""The HTTP API. Only this package handles Flask requests and responses."""
