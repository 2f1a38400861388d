"""The configs: ``configs/*.toml`` in the data directory, one agent each.

A config sets the model, the prompt and the tools. Its id is the file's stem. A change applies to
the next turn once the file has been settled for a second. For an invalid file, the error is logged
in one line and the last valid version stays in effect.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import ApiError, SettingsError
from ..runtime.private_files import write_new_private_file
from .agents import AgentConfig, choose_upstream_config, read_config
from .upstream import CONFIG_SEPARATOR
from .watched import InvalidFile, is_settled

log = logging.getLogger(__name__)

DEFAULT_CONFIG_ID = "default"

#: Interval between checks of the folder, in seconds.
_RECHECK_S = 1.0

#: Shorter interval if an unknown config is requested, because it may have just been written.
_RECHECK_UNKNOWN_S = 0.05

_DEFAULT_TOML = """\
# The default config. Changes apply to the next turn, without a restart.
name = "default"

[provider]
# "auto": ASTRBOT_MODEL_URL if set, else OpenAI if OPENAI_API_KEY is set, else an
# Ollama on this machine, else the embedded demonstration model.
# To use your own model, replace this line with:
#   type = "openai"
#   base_url = "http://127.0.0.1:11434/v1"
# and, if needed, model = "…" and api_key_env = "NAME_OF_A_VARIABLE".
type = "auto"

[agent]
system_prompt = "You are a helpful AI assistant."
history_tokens = 8000
"""


def iter_stamps(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Yield each config file with its modification time and size, in the order of their names.

    A file that cannot be examined is yielded too: reading it logs the error, and its last valid
    version stays in effect. Hidden files are those of editors and of macOS. Opening a pipe would
    block the worker.

    :raises OSError: if the folder cannot be listed.
    """
    for name in sorted(os.listdir(folder)):
        if name.startswith(".") or not name.endswith(".toml"):
            continue
        path = folder / name
        try:
            found = path.stat()
        except OSError:
            if os.path.lexists(path):  # otherwise an editor has renamed it
                yield path, (0, 0)
            continue
        if stat.S_ISREG(found.st_mode):
            yield path, (found.st_mtime_ns, found.st_size)


class ConfigFiles:
    """The configs of one data directory, reloaded after changes.

    :param data_dir: Parent of ``configs/``. Both are created if missing, with a
        ``default.toml`` to start from.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._folder = data_dir / "configs"
        self._lock = threading.Lock()
        self._seen: dict[Path, tuple[int, int]] = {}
        self._configs: dict[str, AgentConfig] = {}
        self._errors: dict[Path, str] = {}
        self._origins: frozenset[str] = frozenset()
        self._checked_at = float("-inf")
        self._unlisted = False

    def create_default(self) -> None:
        """Write ``configs/default.toml`` if it does not exist."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # Users may write a key into it.
        write_new_private_file(self._folder / f"{DEFAULT_CONFIG_ID}.toml", _DEFAULT_TOML)

    def load_all(self) -> None:
        """Read and check every file now. Called at the server's start.

        :raises SettingsError: for the first invalid file.
        """
        self.create_default()
        for path, _ in iter_stamps(self._folder):
            read_config(path, self._shown(path))
        self._refresh(0.0, at_once=True)

    def list_configs(self) -> list[AgentConfig]:
        """Return all configs, the default one last."""
        self._refresh()
        return sorted(self._configs.values(), key=lambda one: (one.id == DEFAULT_CONFIG_ID, one.id))

    def find_config(self, config_id: str) -> AgentConfig | None:
        """Return the config with this id, or None.

        ``ID:OTHER`` is the config ``OTHER`` of config ``ID``'s AstrBot.
        """
        self._refresh()
        own, _, other = config_id.partition(CONFIG_SEPARATOR)
        if own not in self._configs:  # the file may be newer than the last check
            self._refresh(0.0 if self._is_new(f"{own}.toml") else _RECHECK_UNKNOWN_S)
        config = self._configs.get(own)
        if config is not None and other:
            return choose_upstream_config(config, other)
        return self._configs.get(config_id)

    def list_invalid(self) -> list[InvalidFile]:
        """Return the files whose present content is invalid."""
        self._refresh()
        errors = dict(self._errors)
        return [
            InvalidFile(self._shown(path), error, kept=path.stem in self._configs)
            for path, error in sorted(errors.items())
        ]

    def list_origins(self) -> frozenset[str]:
        """Return the origins of all pages that a config answers without a key."""
        self._refresh()
        return self._origins

    def get_default(self) -> AgentConfig:
        """Return the default config.

        :raises ApiError: ``configuration_error`` if its file is missing or invalid.
        """
        config = self.find_config(DEFAULT_CONFIG_ID)
        if config is None:
            raise ApiError(
                "configuration_error",
                "The default config is missing or invalid. See the server's log.",
            )
        return config

    def choose_config(self, config_id: str, config_name: str) -> AgentConfig | None:
        """Return the config that a request selects. The id takes precedence.

        :returns: None if both are blank.
        :raises ApiError: ``config_not_found``, or ``config_ambiguous`` if several configs have
            the name.
        """
        if config_id:
            config = self.find_config(config_id)
            if config is None:
                raise ApiError("config_not_found", f"config_id not found: {config_id}")
            return config
        if not config_name:
            return None
        named = [one for one in self.list_configs() if one.name == config_name]
        if not named:
            raise ApiError("config_not_found", f"config_name not found: {config_name}")
        if len(named) > 1:
            raise ApiError(
                "config_ambiguous",
                f"config_name is ambiguous, please use config_id: {config_name}",
            )
        return named[0]

    def _is_new(self, name: str) -> bool:
        """Return whether a config file exists that no check has seen. Anyone may send the name."""
        path = self._folder / name
        plain = path.name == name and not name.startswith(".")
        return plain and path not in self._seen and os.path.exists(path)

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._data_dir).as_posix()

    def _refresh(self, max_age_s: float | None = None, at_once: bool = False) -> None:
        """Reload changed files, unless the last check is more recent than ``max_age_s``.

        :param at_once: Whether files that may be incomplete are reloaded, too.
        """
        now = time.monotonic()
        if now - self._checked_at < (_RECHECK_S if max_age_s is None else max_age_s):
            return
        with self._lock:
            self._checked_at = now
            found = self._list_files()
            for path in sorted(self._seen.keys() | found.keys()):
                stamp = found.get(path)
                if stamp == self._seen.get(path):
                    continue
                if not at_once and path.stem in self._configs and not is_settled(path):
                    continue  # it may be incomplete
                if stamp is None:
                    self._configs.pop(path.stem, None)
                    self._errors.pop(path, None)
                    del self._seen[path]
                    log.warning("%s was removed; turns cannot use it", self._shown(path))
                else:
                    self._reload(path)
                    self._seen[path] = stamp
            widgets = [one.widget for one in self._configs.values() if one.widget is not None]
            self._origins = frozenset(origin for one in widgets for origin in one.origins)

    def _list_files(self) -> dict[Path, tuple[int, int]]:
        """Return the present files, or the known ones if the folder cannot be listed.

        A share that is not mounted, or too many open files, must not remove the configs.
        """
        try:
            found = dict(iter_stamps(self._folder))
        except OSError as error:
            if not self._unlisted:
                text = "%s cannot be listed: %s (the last valid files stay in effect)"
                log.error(text, self._folder, error.strerror)
            self._unlisted = True
            return self._seen
        self._unlisted = False
        return found

    def _reload(self, path: Path) -> None:
        try:
            self._configs[path.stem] = read_config(path, self._shown(path))
            self._errors.pop(path, None)
        except SettingsError as error:
            self._errors[path] = str(error)
            kept = "its last valid version stays" if path.stem in self._configs else "it is skipped"
            log.error("%s (%s)", error, kept)
