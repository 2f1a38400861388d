"""The application of ``test_workers.py`` with a short limit for sending a response."""

from __future__ import annotations

from flask import Flask

from astrbot_api import create_app
from astrbot_api.http import draining


def build() -> Flask:
    """Return an application that closes the connection of a client that does not read."""
    draining._SEND_S, draining.SLOWEST_BYTES_PER_S = 0.1, 2**40
    return create_app()
