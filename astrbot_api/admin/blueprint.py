"""The blueprints of the owner's routes; they share one way to answer errors."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

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
