"""The lines that ``astrbot-api serve`` prints after the start."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..runtime.version import find_version
from .choose_model import ModelChoice

_BODY = """'{"message":"Hello","username":"alice"}'"""


@dataclass(slots=True)
class Banner:
    """Start-up information, printed when the server responds.

    :param url: Base URL for clients on this machine, with the prefix.
    :param data_dir: Absolute path of the data directory.
    :param is_default_dir: Whether commands find the data directory without ``--data-dir``.
    :param first_key: Secret of a newly created key, or None.
    :param first_owner: Name and password of a newly created owner, or None.
    :param pages: Whether the owner's pages are enabled.
    """

    url: str
    data_dir: Path
    is_default_dir: bool
    choice: ModelChoice
    first_key: str | None = field(repr=False)
    first_owner: tuple[str, str] | None = field(default=None, repr=False)
    pages: bool = True
    shown: bool = False

    def show(self) -> None:
        """Print everything. Only the first call prints."""
        if not self.shown:
            self.shown = True
            say(self.render())

    def show_secrets(self) -> None:
        """Print new secrets if :meth:`show` has not. They cannot be shown later."""
        if self.shown:
            return
        self.shown = bool(self.first_key or self.first_owner)
        if self.first_key:
            say(f"An API key was created. It is shown only once: {self.first_key}")
        if self.first_owner:
            name, password = self.first_owner
            say(f"The owner {name} was created. The password is shown only once: {password}")

    def render(self) -> str:
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
        return "\n".join([*lines, "", *self._render_owner(), *self._render_key(), ""])

    def _render_owner(self) -> list[str]:
        if not self.first_owner:
            return []
        name, password = self.first_owner
        where = f"{self.url}/" if self.pages else f"{self.url}/api/auth/login"
        return [
            f"Log in at {where} (password shown only once):",
            f"    name      {name}",
            f"    password  {password}",
            "",
        ]

    def _render_key(self) -> list[str]:
        if self.first_key:
            return [
                "Your first API key (shown only once):",
                f"    {self.first_key}",
                "Try it:",
                self._curl("'", self.first_key),
            ]
        where = "" if self.is_default_dir else f" --data-dir {shlex.quote(str(self.data_dir))}"
        return [
            f"A new API key: {_program()} keys create NAME --scope chat{where}",
            "Try it, with ASTRBOT_KEY set to a key:",
            self._curl('"', "$ASTRBOT_KEY"),
        ]

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


def say(text: str) -> None:
    """Print a line. Errors of a closed terminal are ignored."""
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)


def say_error(text: str) -> None:
    """Print one line to standard error, prefixed with the program's name."""
    with contextlib.suppress(OSError, ValueError):
        print(f"astrbot-api: {text}", file=sys.stderr, flush=True)
