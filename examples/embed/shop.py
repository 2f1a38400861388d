"""A shop with its own users, pages and database, and a chat.

::

    flask --app examples/embed/shop.py:create_shop run
    waitress-serve --threads 32 --call examples.embed.shop:create_shop

The API is at ``/bot/api/v1``. Users who are logged in to the shop chat under their own names; other
programs use keys. The shop's own agent answers.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from flask import (
    Flask,
    Request,
    Response,
    current_app,
    redirect,
    render_template,
    request,
    session,
)
from werkzeug.security import check_password_hash, generate_password_hash

from astrbot_api import AstrBotAPI, HostUser, ToolContext, ToolFinished, ToolStarted

_TABLES = """
CREATE TABLE IF NOT EXISTS user (name TEXT PRIMARY KEY, password TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS purchase (user TEXT NOT NULL, what TEXT NOT NULL, state TEXT NOT NULL);
"""


class ShopAgent:
    """Answers questions about the orders of the user.

    It runs outside of any request, in a thread of its turn (under gevent: a greenlet). So it opens
    its own database connection.
    """

    def __init__(self, database: Path) -> None:
        self._database = database

    def __call__(self, messages: Sequence[dict[str, Any]], context: ToolContext) -> Iterator[Any]:
        question = str(messages[-1]["content"])
        if "order" not in question:
            yield "I know your orders. "
            yield "Ask me about them!"
            return
        # Clients show this as a tool call. It is optional.
        yield ToolStarted("look-up", "find_orders", {"user": context.username}, time.time())
        orders = self.find_orders(context.username)
        yield ToolFinished("look-up", f"{len(orders)} found", time.time())
        yield f"{context.username}, you have {len(orders)} orders."
        for what, state in orders:
            yield f"\n- {what}: {state}"

    def find_orders(self, user: str) -> list[tuple[str, str]]:
        """Return the orders of a user with their states."""
        with closing(sqlite3.connect(self._database)) as db:
            sql = "SELECT what, state FROM purchase WHERE user = ? ORDER BY rowid"
            return list(db.execute(sql, (user,)))


def create_shop(data_dir: Path | str = "shop-data") -> Flask:
    """Create the shop's application."""
    folder = Path(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    shop = Flask(__name__)
    shop.config.update(
        SHOP_DB=folder / "shop.db",
        SECRET_KEY="change me: openssl rand -hex 32",
        # The chat uses this cookie, so other sites' pages must not send it.
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_HTTPONLY=True,
    )
    with closing(_connect(shop)) as db, db:
        db.executescript(_TABLES)
    shop.add_url_rule("/", view_func=show_home)
    shop.add_url_rule("/login", view_func=log_in, methods=["GET", "POST"])
    shop.add_url_rule("/logout", view_func=log_out, methods=["POST"])
    shop.register_error_handler(404, show_not_found)

    AstrBotAPI(
        shop,
        url_prefix="/bot",
        data_dir=folder / "bot",
        agent=ShopAgent(shop.config["SHOP_DB"]),
        authenticate=find_user,
        owner_access="off",
    )
    return shop


def find_user(request: Request) -> HostUser | None:
    """Return the user who is logged in to the shop. Called for requests without a key."""
    name = session.get("user")
    return None if name is None else HostUser(name, scopes=("chat", "file"))


def show_home() -> str:
    """Show the shop. Its page calls the API."""
    return render_template("home.html", user=session.get("user"))


def log_in() -> Response | str | tuple[str, int]:
    """Log in a user by name and password."""
    if request.method == "GET":
        return render_template("login.html", error="")
    name, password = request.form.get("name", ""), request.form.get("password", "")
    with closing(_connect(current_app)) as db:
        row = db.execute("SELECT password FROM user WHERE name = ?", (name,)).fetchone()
    if row is None or not check_password_hash(row[0], password):
        return render_template("login.html", error="Wrong name or password."), 403
    session.clear()
    session["user"] = name
    return redirect("/")  # type: ignore[return-value]


def log_out() -> Response:
    """Log out. Later requests to the API are not authenticated."""
    session.clear()
    return redirect("/")  # type: ignore[return-value]


def show_not_found(error: Exception) -> tuple[str, int]:
    """Show the shop's own 404 page. Below /bot/api, errors are JSON."""
    return render_template("404.html"), 404


def add_user(shop: Flask, name: str, password: str, orders: Sequence[tuple[str, str]] = ()) -> None:
    """Add a user with orders, given as pairs of item and state."""
    with closing(_connect(shop)) as db, db:
        db.execute("INSERT INTO user VALUES (?, ?)", (name, generate_password_hash(password)))
        db.executemany("INSERT INTO purchase VALUES (?, ?, ?)", [(name, *one) for one in orders])


def _connect(shop: Flask) -> sqlite3.Connection:
    return sqlite3.connect(shop.config["SHOP_DB"])
