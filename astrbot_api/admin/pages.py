"""The owner's pages: HTML without data, which their scripts load."""

from __future__ import annotations

import hashlib
import secrets
from functools import cache
from pathlib import Path
from urllib.parse import quote

import orjson
from flask import Response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from ..error_codes import ERROR_CODES
from ..errors import ApiError
from ..http.pages import send_asset, send_generated
from ..http.state import get_state
from ..http.widget.bundle import SHARED, STATIC
from ..owner.login import Login
from ..translations import (
    LANGUAGE_TAGS,
    LANGUAGES,
    OWNER_PAGES,
    choose_language,
    load_catalogue,
    make_gettext,
    translate_text,
)
from .access import AdminBlueprint, find_page_login

blp = AdminBlueprint("pages", "/admin", public=True)
blp.template_folder = "templates"

_ASSETS = Path(__file__).parent / "static"

#: Time that browsers cache the assets, in seconds. Their URLs contain a version.
_ASSET_MAX_AGE_S = 3600

#: Cookie with the language of ``?lang=``.
_LANGUAGE_COOKIE = "astrbot_lang"

#: Name of each language in that language.
_OWN_NAMES = {"en": "English", "zh": "中文"}

#: Path of a page -> title and icon, in the order of the navigation.
_PAGES = {
    "": ("Overview", "home"),
    "console": ("Console", "chat"),
    "keys": ("API keys", "key"),
    "sessions": ("Sessions", "list"),
    "approvals": ("Approvals", "hand"),
    "configs": ("Configs", "sliders"),
    "bots": ("Bots", "bot"),
    "audit": ("Audit", "audit"),
}

# No inline scripts or styles. Images of uploads are blob URLs of the page. A script needs the
# page's nonce, which covers its imports too, so no other file of this origin can run.
_CSP = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


@blp.get("/", defaults={"page": ""})
@blp.get("/<page>", strict_slashes=False)
def show_page(page: str) -> BaseResponse:
    """Show a page, or redirect to the login, which then opens the page."""
    if page not in _PAGES:
        if "text/html" in request.headers.get("Accept", ""):  # a browser
            missing = _render("missing.html", page, None)
            missing.status_code = 404
            return missing
        raise ApiError("path_not_found", f"There is no page {request.path}; open {_admin_root()}/")
    login = find_page_login()
    if login is None:
        # Relative, since some proxies add the prefix of paths to Location themselves.
        up = "../" if page and request.path.endswith("/") else ""
        return redirect(f"{up}login" + (f"?next={page}" if page else ""))
    return _render(f"{page or 'overview'}.html", page, login)


@blp.get("/login")
def show_login() -> BaseResponse:
    """Show the login form; redirect a logged-in owner."""
    if find_page_login() is not None:
        return redirect(f"./{_read_next_page()}")
    return _render("login.html", "login", None)


@blp.get("/assets/catalogue.js")
def get_catalogue() -> Response:
    """Serve the Chinese texts of the scripts."""
    return _add_security_headers(send_generated(_make_catalogue(), "text/javascript", "no-cache"))


@blp.get("/assets/<name>")
def get_asset(name: str) -> Response:
    """Serve a script, the style sheet or the icon."""
    # Scripts import each other without a version in the URL, so browsers must revalidate them.
    fixed = "v" in request.args
    folder = STATIC if name in SHARED else _ASSETS
    return _add_security_headers(send_asset(folder, name, _ASSET_MAX_AGE_S if fixed else 0))


def _render(template: str, page: str, login: Login | None) -> Response:
    state = get_state()
    kept = request.cookies.get(_LANGUAGE_COOKIE, "")
    language = choose_language(request.args.get("lang", kept), request.accept_languages)
    gettext = make_gettext(language)
    other = next(one for one in LANGUAGES if one != language)
    theme = request.cookies.get("astrbot_theme", "")
    nonce = secrets.token_urlsafe(16)
    html = render_template(
        f"astrbot_admin/{template}",
        _=gettext,
        page=page,
        next_page=_read_next_page(),
        pages=[(name, gettext(title), icon) for name, (title, icon) in _PAGES.items()],
        language=language,
        tag=LANGUAGE_TAGS[language],
        other_language=other,
        other_tag=LANGUAGE_TAGS[other],
        other_name=_OWN_NAMES[other],
        theme=theme if theme in ("light", "dark") else "",
        admin_root=_admin_root(),
        api_root=f"{_root()}/api/v1",
        csrf=state.owner.csrf_token(login) if login else "",
        owner=login.name if login else "",
        has_owner=login is not None or state.owner.has_owner(),
        audit_days=state.settings.audit_days,
        version=_version(),
        nonce=nonce,
    )
    response = Response(html, mimetype="text/html")
    response.headers["Content-Security-Policy"] = _CSP.format(nonce=nonce)
    response.headers["Content-Language"] = LANGUAGE_TAGS[language]
    if request.args.get("lang") in LANGUAGES:
        response.set_cookie(
            _LANGUAGE_COOKIE, language, max_age=31_536_000, path=_admin_root(),
            secure=request.is_secure, httponly=True, samesite="Strict",
        )  # fmt: skip
    return _add_security_headers(response)


def _add_security_headers(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response


def _read_next_page() -> str:
    """Return the page to open after the login."""
    page = request.args.get("next", "")
    return page if page in _PAGES else ""


def _root() -> str:
    return quote(request.script_root + get_state().settings.url_prefix)


def _admin_root() -> str:
    return f"{_root()}/admin"


@cache
def _make_catalogue() -> bytes:
    """Return the script with the Chinese texts.

    The key of an error code is ``code:`` and the code.
    """
    texts = dict(load_catalogue("zh", OWNER_PAGES))
    for one in ERROR_CODES.values():
        meaning = translate_text(one.meaning, "zh") + translate_text(one.remedy, "zh")
        texts[f"code:{one.code}"] = meaning.replace("`", "")
    return b"export default " + orjson.dumps(texts) + b";\n"


@cache
def _version() -> str:
    """Return a short hash of the assets."""
    digest = hashlib.sha256()
    for path in sorted(_ASSETS.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]
