"""Who may use the owner's routes: a token in a header, or a page's cookie."""

from __future__ import annotations

from flask import Response, request

from ..errors import ApiError
from ..http.state import get_state
from ..owner.login import Login

#: The cookie of the pages; scripts cannot read it.
COOKIE = "astrbot_owner"

#: The header in which a page sends its token back.
CSRF_HEADER = "X-CSRF-Token"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

# The recorded server's words.
_NO_LOGIN = "未授权"
_BAD_LOGIN = "Token 无效"


def require_owner() -> Login:
    """Return the login of this request.

    A token in ``Authorization: Bearer`` wins. The cookie alone is enough to
    read; whatever changes something needs the page's CSRF token beside it.

    :raises ApiError: ``login_required``, ``login_expired`` or ``csrf_failed``.
    """
    scheme, _, rest = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and rest.strip():
        return _find(rest.strip())
    token = request.cookies.get(COOKIE, "")
    if not token:
        raise ApiError("login_required", _NO_LOGIN)
    login = _find(token)
    if request.method not in _SAFE:
        sent = request.headers.get(CSRF_HEADER, "")
        if not get_state().owner.is_csrf_token(login, sent):
            raise ApiError(
                "csrf_failed", f"the {CSRF_HEADER} header is missing or wrong; reload the page"
            )
    return login


def find_page_login() -> Login | None:
    """Return the login of a page's cookie, if there is one."""
    token = request.cookies.get(COOKIE, "")
    return get_state().owner.find_login(token) if token else None


def get_address() -> str:
    """Return where this request comes from."""
    return request.remote_addr or ""


def set_cookie(response: Response, token: str) -> None:
    """Give the browser its login."""
    response.set_cookie(
        COOKIE, token, max_age=get_state().owner.session_s, path=_cookie_path(),
        secure=request.is_secure, httponly=True, samesite="Strict",
    )  # fmt: skip


def clear_cookie(response: Response) -> None:
    """Take the browser's login away."""
    response.delete_cookie(
        COOKIE, path=_cookie_path(), secure=request.is_secure, httponly=True, samesite="Strict"
    )


def _cookie_path() -> str:
    return (request.script_root + get_state().settings.url_prefix) or "/"


def _find(token: str) -> Login:
    login = get_state().owner.find_login(token)
    if login is None:
        raise ApiError("login_expired", _BAD_LOGIN)
    return login
