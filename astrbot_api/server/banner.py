"""The lines that ``astrbot-api serve`` prints after the start."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import AstrBotError
from ..runtime.version import find_version
from .choose_model import ModelChoice
from .preparing import FirstAccess

_BODY = """'{"message":"Hello","username":"alice"}'"""


@dataclass(slots=True)
class Banner:
    """Start-up information, printed when the server responds.

    :param url: Base URL for clients on this machine, with the prefix.
    :param data_dir: Absolute path of the data directory.
    :param is_default_dir: Whether commands find the data directory without ``--data-dir``.
    :param create_access: Creates the first key and the owner. It is called just before they are
        printed: a start that is killed earlier loses none.
    :param pages: Whether the owner's pages are enabled.
    """

    url: str
    data_dir: Path
    is_default_dir: bool
    choice: ModelChoice
    create_access: Callable[[], FirstAccess]
    owner_name: str = ""
    pages: bool = True
    shown: bool = False

    def show(self) -> None:
        """Create the first key and the owner, and print everything. Only the first call does."""
        if self.shown:
            return
        self.shown = True
        try:
            access = self.create_access()
        except AstrBotError as error:
            text = error.operator_text or error
            say_error(f"no first key and owner were created; the next start tries again: {text}")
            access = FirstAccess()
        if not say(self.render(access)) and access != FirstAccess():
            say_error(
                "the first key and password could not be printed. Create others: "
                f"{_program()} keys create NAME{self._where}; "
                f"{_program()} admin set-password{self._where}"
            )

    def render(self, access: FirstAccess) -> str:
        """Return all lines as text."""
        lines = [
            "",
            f"astrbot-api {find_version('(not installed)')} answers at {self.url}/api/v1",
            f"Documentation: {self.url}/api/v1/docs",
            *([f"Your pages: {self.url}/"] if self.pages else []),
            f"Data: {self.data_dir}",
            self.choice.text,
        ]
        if self.choice.kind in ("embedded", "none"):
            lines += [
                f"For a real model, replace type = … in "
                f"{self.data_dir / 'configs' / 'default.toml'} by:",
                '    type = "openai"',
                '    base_url = "http://127.0.0.1:11434/v1"',
            ]
        owner = self._render_owner(access.password) if access.password else []
        return "\n".join([*lines, "", *owner, *self._render_key(access.key), ""])

    def _render_owner(self, password: str) -> list[str]:
        where = f"{self.url}/" if self.pages else f"{self.url}/api/auth/login"
        return [
            f"Log in at {where} (password shown only once):",
            f"    name      {self.owner_name}",
            f"    password  {password}",
            "",
        ]

    def _render_key(self, key: str | None) -> list[str]:
        if key:
            return [
                "Your first API key (shown only once):",
                f"    {key}",
                "Try it:",
                self._curl("'", key),
            ]
        return [
            f"A new API key: {_program()} keys create NAME --scope chat{self._where}",
            "Try it, with ASTRBOT_KEY set to a key:",
            self._curl('"', "$ASTRBOT_KEY"),
        ]

    @property
    def _where(self) -> str:
        """The option that commands need to find the data directory."""
        return "" if self.is_default_dir else f" --data-dir {shlex.quote(str(self.data_dir))}"

    def _curl(self, quote: str, key: str) -> str:
        return (
            f"    curl -N {self.url}/api/v1/chat -H {quote}Authorization: Bearer {key}{quote} "
            f"-H 'Content-Type: application/json' -d {_BODY}"
        )


def _program() -> str:
    """Return the command that this user can call: its name, or the path that was used."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m astrbot_api"
    found = shutil.which("astrbot-api")
    if found and called.exists() and Path(found).resolve() == called.resolve():
        return "astrbot-api"
    if called.name != "astrbot-api":
        return "astrbot-api"
    return shlex.quote(os.path.relpath(called))


def say(text: str) -> bool:
    """Print a line. Return False if the output is closed."""
    try:
        print(text, flush=True)
    except (OSError, ValueError):
        return False
    return sys.stdout is not None  # None: it was closed before the start


def say_error(text: str) -> None:
    """Print one line to standard error, prefixed with the program's name."""
    with contextlib.suppress(OSError, ValueError):
        print(f"astrbot-api: {text}", file=sys.stderr, flush=True)
