"""The blueprints of the owner's routes; they share one way to answer errors."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask

from ..config import Settings
from ..http.errors import register_error_handlers
from ..http.openapi import add_request_hooks
from .access import require_owner


class AdminBlueprint(Blueprint):
    """Routes of the owner. ``public`` ones ask for no login."""

    def __init__(self, name: str, import_name: str, *, public: bool = False, **kw: Any) -> None:
        super().__init__(name, import_name, **kw)
        self.public = public
        if not public:
            self.before_request(_check_login)


def _check_login() -> None:
    require_owner()


def register_admin(app: Flask, settings: Settings) -> None:
    """Add the owner's routes, as far as ``owner_access`` has them."""
    from .bots import blp as bots
    from .data import blp as data
    from .keys import blp as keys
    from .login import blp as login
    from .pages import blp as pages
    from .sessions import blp as sessions

    if settings.owner_access == "off":
        return
    parent = Blueprint("astrbot_admin", __name__)
    add_request_hooks(parent)
    register_error_handlers(parent)
    for blueprint in (login, keys):
        parent.register_blueprint(blueprint, url_prefix=f"/api{blueprint.url_prefix}")
    if settings.owner_access == "pages":
        for blueprint in (pages, data, sessions, bots):
            parent.register_blueprint(blueprint)
    app.register_blueprint(parent, url_prefix=settings.url_prefix or None)
