"""``POST /api/auth/login`` and ``/logout``, compatible with AstrBot's own clients."""

from __future__ import annotations

from flask import Response, request

from ..errors import ApiError, refuse
from ..http.envelope import ok
from ..http.json_body import read_json_object
from ..http.state import get_state
from .access import (
    BROWSER_AGE_S,
    BROWSER_COOKIE,
    COOKIE,
    AdminBlueprint,
    get_address,
    require_owner,
    set_cookie,
)

blp = AdminBlueprint("auth", "/auth", public=True)

# Error text of the recorded server.
_BAD_BODY = "Invalid request payload"
_MAX_LOGIN_BYTES = 8 * 1024

_LOGGED_OUT = "已退出登录"


@blp.post("/login")
def log_in() -> Response:
    """Return a token for ``Authorization: Bearer``, and set it as the pages' cookie."""
    body = read_json_object(request, max_bytes=_MAX_LOGIN_BYTES)
    name, password = body.get("username"), body.get("password")
    if not isinstance(name, str) or not isinstance(password, str):
        raise refuse(_BAD_BODY)
    state = get_state()
    browser = request.cookies.get(BROWSER_COOKIE, "")
    token = state.owner.log_in(name.strip(), password, get_address(), browser)
    # The hints concern old password formats of AstrBot, which this server never had.
    hints = dict.fromkeys(("change_pwd_hint", "md5_pwd_hint", "password_upgrade_required"), False)
    answer = ok({"token": token, "username": name.strip(), **hints})
    set_cookie(answer, COOKIE, token, state.owner.session_s)
    signed = state.owner.sign_browser(name.strip(), browser)
    set_cookie(answer, BROWSER_COOKIE, signed, BROWSER_AGE_S)
    return answer


@blp.post("/logout")
def log_out() -> Response:
    """End the login of this request. Without a login, do nothing."""
    try:
        get_state().owner.log_out(require_owner(), get_address())
    except ApiError as error:
        if error.code == "csrf_failed":
            raise
    answer = ok({}, message=_LOGGED_OUT)
    set_cookie(answer, COOKIE, "", 0)
    return answer
