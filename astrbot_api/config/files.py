"""The configs: ``configs/*.toml`` of the data directory, one agent each.

A config says which model answers, which prompt and which tools it has.
Its id is the file's stem. A changed file is picked up by the next turn; a
bad one gives one clear line in the log, and the last good one stays.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import ApiError, SettingsError
from ..runtime.private_files import open_private
from .agents import AgentConfig, choose_upstream_config, read_config
from .upstream import CONFIG_SEPARATOR

log = logging.getLogger(__name__)

#: Id of the config that is used where none was chosen.
DEFAULT_CONFIG_ID = "default"

#: How long a look at the folder holds, in seconds.
_RECHECK_S = 1.0

#: The same where a config is asked for that is not known: it may just have been written.
_RECHECK_UNKNOWN_S = 0.05

_DEFAULT_TOML = """\
# The default config. A change is picked up by the next turn; no restart.
name = "default"

[provider]
# "auto": ASTRBOT_MODEL_URL if set, else OpenAI if OPENAI_API_KEY is set, else an
# Ollama on this machine, else the embedded demonstration model.
# To name a model of your own, replace this line by its two:
#   type = "openai"
#   base_url = "http://127.0.0.1:11434/v1"
# and, where they are needed, model = "…" and api_key_env = "NAME_OF_A_VARIABLE".
type = "auto"

[agent]
system_prompt = "You are a helpful AI assistant."
history_tokens = 8000
"""


def _iter_stamps(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Yield each config file with what changes when it is written."""
    for path in folder.glob("*.toml"):
        try:
            stat = path.stat()
        except FileNotFoundError:  # an editor renames its files
            continue
        yield path, (stat.st_mtime_ns, stat.st_size)


class ConfigFiles:
    """The configs of one data directory, kept up to date.

    :param data_dir: Holds ``configs/``; both are made when missing, with a
        ``default.toml`` to start from.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._folder = data_dir / "configs"
        self._lock = threading.Lock()
        self._seen: dict[Path, tuple[int, int]] = {}
        self._configs: dict[str, AgentConfig] = {}
        self._origins: frozenset[str] = frozenset()
        self._checked_at = float("-inf")

    def create_default(self) -> Path:
        """Write ``configs/default.toml`` unless it is there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{DEFAULT_CONFIG_ID}.toml"
        try:
            # A key may be written into it.
            with open(path, "x", encoding="utf-8", opener=open_private) as file:
                file.write(_DEFAULT_TOML)
        except FileExistsError:
            pass
        return path

    def load_all(self) -> None:
        """Read every file now and refuse a bad one, for the start of the server.

        :raises SettingsError: for the first file that is wrong.
        """
        self.create_default()
        for path in sorted(self._folder.glob("*.toml")):
            read_config(path, self._shown(path))
        self._refresh(0.0)

    def list_configs(self) -> list[AgentConfig]:
        """Return every config, the default one last."""
        self._refresh()
        return sorted(self._configs.values(), key=lambda one: (one.id == DEFAULT_CONFIG_ID, one.id))

    def find_config(self, config_id: str) -> AgentConfig | None:
        """Return the config of this id, or None.

        ``ID:OTHER`` is the config ``OTHER`` of the AstrBot that config ``ID`` names.
        """
        self._refresh()
        own, _, other = config_id.partition(CONFIG_SEPARATOR)
        if own not in self._configs:
            self._refresh(_RECHECK_UNKNOWN_S)  # its file may be newer than the last look
        config = self._configs.get(own)
        if config is not None and other:
            return choose_upstream_config(config, other)
        return self._configs.get(config_id)

    def list_origins(self) -> frozenset[str]:
        """Return the origins of the pages that some config answers without a key."""
        self._refresh()
        return self._origins

    def get_default(self) -> AgentConfig:
        """Return the default config.

        :raises ApiError: ``configuration_error`` when its file is unusable.
        """
        config = self.find_config(DEFAULT_CONFIG_ID)
        if config is None:
            raise ApiError(
                "configuration_error",
                "The default config is missing or wrong; its fault is in the server's log.",
            )
        return config

    def choose_config(self, config_id: str, config_name: str) -> AgentConfig | None:
        """Resolve what a caller asked for; the id wins.

        :returns: None when both are blank.
        :raises ApiError: ``config_not_found``, or ``config_ambiguous`` for a
            name that two configs have.
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

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._data_dir).as_posix()

    def _refresh(self, max_age_s: float | None = None) -> None:
        """Look for changed files, unless the last look is no older than that."""
        now = time.monotonic()
        if now - self._checked_at < (_RECHECK_S if max_age_s is None else max_age_s):
            return
        with self._lock:
            self._checked_at = now
            found = dict(_iter_stamps(self._folder))
            for path in self._seen.keys() - found.keys():
                self._configs.pop(path.stem, None)
            for path, stamp in found.items():
                if self._seen.get(path) != stamp:
                    self._reload(path)
            self._seen = found
            widgets = [one.widget for one in self._configs.values() if one.widget is not None]
            self._origins = frozenset(origin for one in widgets for origin in one.origins)

    def _reload(self, path: Path) -> None:
        try:
            self._configs[path.stem] = read_config(path, self._shown(path))
        except SettingsError as error:
            kept = "the last good one stays" if path.stem in self._configs else "it is left out"
            log.error("%s (%s)", error, kept)
