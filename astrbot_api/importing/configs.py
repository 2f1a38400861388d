"""Converts ``cmd_config.json`` and ``config/abconf_*.json`` to ``configs/ID.toml``.

Source of the paths: the public page on the configuration file. Source of the ids:
``10-bots-configs.jsonl`` (``abconf_ID.json`` is the config ``ID``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ..config.agents import read_config
from ..config.files import DEFAULT_CONFIG_ID
from ..errors import SettingsError
from .providers import iter_named, read_providers
from .report import Tally
from .source import ImportFault, Source
from .values import read_json_value, read_text

_DEFAULT_FILE = "cmd_config.json"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

#: Id of the imported default config if ``default.toml`` already exists.
_SECOND_NAME = "astrbot"

#: Beginning of an imported config, by which the next import recognizes it.
_HEADER = "# Imported from AstrBot: {name}."

#: Maximum number of files, and of rows per preference table, that are read.
_MAX_FILES = 1000
_MAX_PREFERENCES = 10_000


@dataclass
class ConfigImport:
    """Imports configs.

    :param folder: This server's ``configs`` folder.
    """

    source: Source
    folder: Path
    apply: bool
    tally: Tally

    def __post_init__(self) -> None:
        self._default: Mapping[str, Any] = {}
        self._personas = self.source.find_table(("persona_id", "name"), ("system_prompt", "prompt"))
        self.tables = [self._personas]

    def run(self) -> None:
        """Import, or report what would be imported."""
        folder = self.source.folder
        paths = [folder / _DEFAULT_FILE, *sorted((folder / "config").glob("abconf_*.json"))]
        names = self._find_names() if len(paths) > 1 else {}
        for path in paths[:_MAX_FILES]:
            try:
                config = self.source.read_json(path)
                if not isinstance(config, dict):
                    raise ValueError("no object")
            except FileNotFoundError:
                self.tally.skip("the file does not exist", path.name)
                continue
            except (OSError, ValueError, RecursionError):
                self.tally.skip("it is not a JSON object, too large or not readable", path.name)
                continue
            if path.name == _DEFAULT_FILE:
                self._default = config
                self._import_config(self._choose_default_id(), DEFAULT_CONFIG_ID, config, path.name)
            else:
                config_id = path.stem.removeprefix("abconf_")
                self._import_config(config_id, names.get(config_id, config_id), config, path.name)

    def _import_config(
        self, config_id: str, name: str, config: Mapping[str, Any], file_name: str
    ) -> None:
        target = self.folder / f"{config_id}.toml"
        if not _ID.fullmatch(config_id):
            self.tally.skip("its name is not a valid id here", file_name)
        elif target.exists():
            if self._is_imported(target, file_name):
                self.tally.count_present()
            else:
                self.tally.skip(f"configs/{target.name} already exists and is kept", file_name)
        else:
            self._write(target, self._read(name, config, file_name), file_name)

    def _choose_default_id(self) -> str:
        """Return the id under which the default config is, or would be, written."""
        target = self.folder / f"{DEFAULT_CONFIG_ID}.toml"
        if not target.exists() or self._is_imported(target, _DEFAULT_FILE):
            return DEFAULT_CONFIG_ID
        self.tally.note(
            f"configs/default.toml already exists; the import writes configs/{_SECOND_NAME}.toml",
            _DEFAULT_FILE,
        )
        return _SECOND_NAME

    def _is_imported(self, target: Path, file_name: str) -> bool:
        try:
            with target.open(encoding="utf-8", errors="replace") as file:
                return file.readline().startswith(_HEADER.format(name=file_name))
        except OSError:
            return False

    def _read(self, name: str, config: Mapping[str, Any], file_name: str) -> dict[str, Any]:
        found = read_providers(
            config, self._default, lambda what, one: self.tally.note(what, f"{file_name}: {one}")
        )
        providers = list(found.values())
        table: dict[str, Any] = {"name": name[:200] or "AstrBot"}
        if providers:
            table["provider"] = providers[0]
            if providers[1:]:
                table["providers"] = {one.get("id", "provider"): one for one in providers[1:]}
        else:
            self.tally.note(
                "it has no usable provider; the model is chosen as for a config without one",
                file_name,
            )
        prompt = self._find_prompt(config, file_name)
        if prompt:
            table["agent"] = {"system_prompt": prompt}
        return table

    def _find_prompt(self, config: Mapping[str, Any], file_name: str) -> str:
        """Return the prompt of the config's persona, from the config or the database."""
        settings = config.get("provider_settings")
        wanted = settings.get("default_personality") if isinstance(settings, dict) else None
        if not isinstance(wanted, str) or not wanted:
            return ""
        persona = self._read_personas(config).get(wanted, "")
        if not persona and wanted != "default":
            self.tally.note("its persona was not found, so it has no system prompt", file_name)
        return persona

    def _read_personas(self, config: Mapping[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        listed = config.get("persona")
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, dict):
                found[read_text(one.get("name"))] = read_text(one.get("prompt"))
        if self._personas is not None:
            names = self._personas.find_column("persona_id", "name")
            texts = self._personas.find_column("system_prompt", "prompt")
            for page in self.source.read_rows(self._personas, (names, texts)):
                found.update((read_text(row[1]), read_text(row[2])) for row in page)
        return found

    def _find_names(self) -> dict[str, str]:
        """Return the configs' names from all preferences that mention their files."""
        names: dict[str, str] = {}
        try:
            shared = self.source.read_json(self.source.folder / "shared_preferences.json")
            names.update(iter_named(shared))
        except (OSError, ValueError, RecursionError):
            pass  # newer versions do not have this file
        for table in self.source.tables:
            if "preference" not in table.name or "value" not in table.columns:
                continue
            seen = 0
            for page in self.source.read_rows(table, ("value",)):
                for _, value in page:
                    if isinstance(value, str) and "abconf_" in value:
                        names.update(_names_in(value))
                seen += len(page)
                if seen >= _MAX_PREFERENCES:
                    break
        return names

    def _write(self, target: Path, table: Mapping[str, Any], file_name: str) -> None:
        """Write a config completely or not at all, and never overwrite another one."""
        header = _HEADER.format(name=file_name) + " It may contain secrets.\n"
        text = header + tomli_w.dumps(table, multiline_strings=False)
        part = self.folder / f".{target.name}.{os.getpid()}.part"
        if not self.apply:
            self.tally.count_imported()
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(text)
            read_config(part, f"configs/{target.name}")
            os.link(part, target)
        except SettingsError as error:
            self.tally.skip(f"this server would reject it: {error}", file_name)
        except FileExistsError:
            self.tally.skip(f"configs/{target.name} was created during the import", file_name)
        except OSError as error:
            raise ImportFault(f"configs/{target.name}: cannot be written: {error}") from error
        else:
            self.tally.count_imported()
        finally:
            part.unlink(missing_ok=True)


def _names_in(value: str) -> dict[str, str]:
    try:
        loaded = read_json_value(value)
    except ValueError:
        return {}
    return dict(iter_named(loaded))
