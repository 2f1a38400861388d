"""Messengers: the bots of ``bots.toml``."""
