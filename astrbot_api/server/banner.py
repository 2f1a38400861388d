"""The lines that ``astrbot-api serve`` prints for the person who started it."""

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
    """The lines that are printed when the server answers.

    :param url: Where a client on this machine reaches it, with its prefix.
    :param data_dir: The data directory, absolute.
    :param is_default_dir: Whether commands find it without ``--data-dir``.
    :param choice: Which model answers.
    :param first_key: Secret of the key that was just made; None: there was one.
    :param first_owner: Name and password of the owner who was just made.
    :param pages: Whether there are the owner's pages.
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
        """Print all of it, once."""
        if not self.shown:
            self.shown = True
            say(self.render())

    def show_secrets(self) -> None:
        """Print new secrets unless :meth:`show` did: they cannot be shown again."""
        if self.shown:
            return
        self.shown = bool(self.first_key or self.first_owner)
        if self.first_key:
            say(f"An API key was made, shown this once: {self.first_key}")
        if self.first_owner:
            name, password = self.first_owner
            say(f"The owner {name} was made; the password, shown this once: {password}")

    def render(self) -> str:
        """Return all of it as text."""
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
            f"Log in at {where}, shown this once:",
            f"    name      {name}",
            f"    password  {password}",
            "",
        ]

    def _render_key(self) -> list[str]:
        if self.first_key:
            return [
                "Your first API key, shown this once:",
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
    """Return how this person can call us: by name, or by the path that was used."""
    called = Path(sys.argv[0])
    found = shutil.which("astrbot-api")
    if found and called.exists() and Path(found).resolve() == called.resolve():
        return "astrbot-api"
    if called.name != "astrbot-api":
        return "astrbot-api"
    return shlex.quote(os.path.relpath(called))


def say(text: str) -> None:
    """Print a line for people; ignore a closed terminal."""
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)


def say_error(text: str) -> None:
    """Print one line to standard error, with the name of the program before it."""
    with contextlib.suppress(OSError, ValueError):
        print(f"astrbot-api: {text}", file=sys.stderr, flush=True)
