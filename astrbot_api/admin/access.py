"""Authentication of the owner's routes, by a token in a header or a cookie, and auditing."""

from __future__ import annotations

from flask import Blueprint, Response, request

from ..db.audit import AuditEntry
from ..errors import ApiError
from ..http.auth import CHECK_AGAIN_KEY, find_header_login, read_bearer
from ..http.state import get_state
from ..owner.login import Login

#: Cookie of the pages' login.
COOKIE = "astrbot_owner"

#: Cookie of a browser with an earlier login. It grants no access. Failed logins from such a
#: browser are counted separately from those of unknown clients.
BROWSER_COOKIE = "astrbot_browser"

BROWSER_AGE_S = 400 * 24 * 3600

#: Maximum number that both databases can compare.
MAX_NUMBER = 2**63 - 1

#: Request header with the page's CSRF token.
_CSRF_HEADER = "X-CSRF-Token"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

#: Key of the login in a request's WSGI environment.
_LOGIN_KEY = "astrbot_api.login"

# Error texts of the recorded server.
_NO_LOGIN = "未授权"
_BAD_LOGIN = "Token 无效"


class AdminBlueprint(Blueprint):
    """Routes of the owner. ``public`` routes need no login.

    :param by_header: Accept only a token in a header, not the pages' cookie.
    """

    def __init__(
        self, name: str, url_prefix: str, *, public: bool = False, by_header: bool = False
    ) -> None:
        super().__init__(name, __name__, url_prefix=url_prefix)
        if not public:
            self.before_request(_check_token if by_header else _check_login)


def _check_login() -> None:
    request.environ[CHECK_AGAIN_KEY] = require_owner
    request.environ[_LOGIN_KEY] = require_owner()


def _check_token() -> None:
    request.environ[CHECK_AGAIN_KEY] = _check_token
    login = find_header_login(request._get_current_object())  # type: ignore[attr-defined]
    if login is None:
        sent = "Authorization" in request.headers
        raise ApiError(*(("login_expired", _BAD_LOGIN) if sent else ("login_required", _NO_LOGIN)))
    request.environ[_LOGIN_KEY] = login


def get_owner() -> str:
    """Return the owner's name. Only for routes that are not public."""
    return get_login().name


def get_login() -> Login:
    """Return the login of this request. Only for routes that are not public."""
    login: Login = request.environ[_LOGIN_KEY]
    return login


def note_action(action: str, subject: str, detail: str) -> None:
    """Add an action of the owner to the audit log, in its own transaction."""
    AuditEntry(action, get_owner(), get_address(), subject, detail).write(get_state().db)


def require_owner() -> Login:
    """Return the login of this request.

    A token in ``Authorization: Bearer`` takes precedence. Read requests need only the cookie.
    Requests that change data also need the page's CSRF token.

    :raises ApiError: ``login_required``, ``login_expired`` or ``csrf_failed``.
    """
    bearer = read_bearer(request)
    if bearer:
        return _find(bearer)
    token = request.cookies.get(COOKIE, "")
    if not token:
        raise ApiError("login_required", _NO_LOGIN)
    login = _find(token)
    if request.method not in _SAFE:
        sent = request.headers.get(_CSRF_HEADER, "")
        if not get_state().owner.is_csrf_token(login, sent):
            raise ApiError(
                "csrf_failed", f"the {_CSRF_HEADER} header is missing or wrong; reload the page"
            )
    return login


def read_cursor(name: str = "before") -> int | None:
    """Return the id in a query parameter, or None if there is none, for the first page."""
    number = request.args.get(name, type=int)
    return number if number is not None and 0 <= number <= MAX_NUMBER else None


def find_page_login() -> Login | None:
    """Return the login of a page's cookie, or None."""
    token = request.cookies.get(COOKIE, "")
    return get_state().owner.find_login(token) if token else None


def get_address() -> str:
    """Return the client's address."""
    return request.remote_addr or ""


def set_cookie(response: Response, name: str, value: str, max_age_s: int) -> None:
    """Set a cookie of the owner's pages, which scripts cannot read. The age 0 removes it."""
    path = (request.script_root + get_state().settings.url_prefix) or "/"
    response.set_cookie(
        name, value, max_age=max_age_s, path=path, secure=request.is_secure,
        httponly=True, samesite="Strict",
    )  # fmt: skip


def _find(token: str) -> Login:
    login = get_state().owner.find_login(token)
    if login is None:
        raise ApiError("login_expired", _BAD_LOGIN)
    return login
