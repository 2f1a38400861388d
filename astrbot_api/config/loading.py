"""Load the settings from the application, its configuration and the environment.

The setting ``heartbeat_s`` is the Flask key ``ASTRBOT_HEARTBEAT_S`` and the environment
variable of the same name. Precedence: arguments of :class:`~astrbot_api.AstrBotAPI`,
``app.config``, the environment, the default.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from ..errors import SettingsError
from .settings import PREFIX, Settings

#: Similarity to the name of a setting, without the prefix, of a misspelt name.
_SIMILAR = 0.83

#: Variables of ``serve``, gunicorn's configuration and the models, which are no settings.
_OTHER_VARIABLES = (
    "ASTRBOT_GRACEFUL_TIMEOUT_S", "ASTRBOT_LOCAL_GGUF", "ASTRBOT_LOG_LEVEL", "ASTRBOT_MODEL",
    "ASTRBOT_MODEL_URL",
)  # fmt: skip

#: What other servers take from the environment, with what is used here.
_ELSEWHERE = {
    "HOST": "use serve's option --host, or gunicorn's -b",
    "PORT": "use serve's option --port, or gunicorn's -b",
    "WORKERS": "rename it to WEB_CONCURRENCY",
}


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    app_config: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Load and check the settings from their three sources.

    :param overrides: Values by field name (``heartbeat_s``). They take precedence.
    :param app_config: A Flask configuration, by key (``ASTRBOT_HEARTBEAT_S``).
    :param environ: Environment variables, ``os.environ`` by default.
    :raises SettingsError: with the setting, its value and the expected values, in one line.
    """
    overrides = dict(overrides or {})
    app_config = app_config or {}
    environ = os.environ if environ is None else environ
    hints = get_type_hints(Settings)
    values: dict[str, Any] = {}
    for item in fields(Settings):
        key = PREFIX + item.name.upper()
        if item.name in overrides:
            raw = overrides.pop(item.name)
        elif key in app_config:
            raw = app_config[key]
        elif key in environ:
            raw = environ[key].strip()  # a secret's file may end with a line break
            if hints[item.name] in _WORDS and not raw:
                continue  # unset: compose passes an empty value for a variable that is not set
        else:
            continue
        value = _convert(key, raw, hints[item.name])
        _check_range(key, value, item.metadata)
        values[item.name] = value
    if overrides:
        unknown = ", ".join(sorted(overrides))
        raise SettingsError(f"unknown setting: {unknown}; see astrbot_api.config.settings.Settings")
    return Settings(**values)


def list_misspelt(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names that have no effect and look like a setting, each with the remedy.

    Other names that begin with the prefix may be the user's own.
    """
    known = [one.name.upper() for one in fields(Settings)]
    known += [name.removeprefix(PREFIX) for name in _OTHER_VARIABLES]
    found = {name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)}
    remedies = ((name, _find_remedy(name, known)) for name in sorted(found.difference(known)))
    return [(PREFIX + name, remedy) for name, remedy in remedies if remedy]


def _find_remedy(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1, _SIMILAR)
    if not close:
        # The first words of one: DATABASE, CORS. A user's own ASTRBOT_URL is no URL_PREFIX.
        close = [one for one in known if name != "URL" and one.startswith(f"{name}_")]
    return f"rename it to {PREFIX}{min(close, key=len)}" if close else _ELSEWHERE.get(name, "")


#: Kinds whose values have no empty text, with what is expected.
_WORDS: Mapping[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", Path: "a path",
}  # fmt: skip

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def _convert(key: str, raw: Any, kind: Any) -> Any:
    """Convert text, or a value of the right type, to the field's type."""
    try:
        if kind is bool:
            if isinstance(raw, bool):
                return raw
            word = str(raw).strip().lower()
            if word in _TRUE:
                return True
            if word in _FALSE:
                return False
            raise ValueError("expected true or false")
        if kind is int:
            return int(raw)
        if kind is float:
            value = float(raw)
            if not math.isfinite(value):
                raise ValueError("expected a finite number")
            return value
        if kind is Path:
            return Path(raw).expanduser()
        if kind == list[str]:
            items = raw.split(",") if isinstance(raw, str) else list(raw)
            return [str(item).strip() for item in items if str(item).strip()]
        return str(raw)
    except (TypeError, ValueError) as error:
        expected = _WORDS.get(kind, "text or a list of texts")
        raise SettingsError(f"{key} must be {expected}; got {raw!r}") from error


def _check_range(key: str, value: Any, meta: Mapping[str, Any]) -> None:
    low, high = meta["minimum"], meta["maximum"]
    if low is not None and value < low:
        raise SettingsError(f"{key} must be at least {low}; got {value}")
    if high is not None and value > high:
        raise SettingsError(f"{key} must be at most {high}; got {value}")
