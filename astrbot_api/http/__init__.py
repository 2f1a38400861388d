"""The HTTP API: the one package that knows of requests and responses."""
