"""Registers the owner's routes on an application."""

from __future__ import annotations

from flask import Blueprint, Flask

from ..config.settings import Settings
from ..http.request_hooks import add_request_hooks


def register_admin(app: Flask, settings: Settings) -> None:
    """Register the owner's routes that the setting ``owner_access`` enables."""
    from .approvals import blp as approvals
    from .bots import blp as bots
    from .configs import blp as configs
    from .dashboard import add_dashboard_paths
    from .data import blp as data
    from .keys import blp as keys
    from .keys import newer_blp as newer_keys
    from .login import blp as login
    from .pages import blp as pages
    from .sessions import blp as sessions

    if settings.owner_access == "off":
        return
    parent = Blueprint("astrbot_admin", __name__)
    add_request_hooks(parent)
    for blueprint in (login, keys):
        parent.register_blueprint(blueprint, url_prefix=f"/api{blueprint.url_prefix}")
    # The paths of newer AstrBot versions.
    parent.register_blueprint(login, url_prefix=f"/api/v1{login.url_prefix}", name="newer_auth")
    parent.register_blueprint(newer_keys, url_prefix=f"/api/v1{newer_keys.url_prefix}")
    if settings.owner_access == "pages":
        for blueprint in (pages, data, sessions, approvals, bots, configs):
            parent.register_blueprint(blueprint)
    app.register_blueprint(parent, url_prefix=settings.url_prefix or None)
    add_dashboard_paths(app, settings)
