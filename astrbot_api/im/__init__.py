"""Messenger bots that are configured in ``bots.toml``."""
