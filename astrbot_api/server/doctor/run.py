"""Checks a data directory for ``astrbot-api doctor``, with a remedy for each problem."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ...config.agents import AgentConfig, read_config
from ...config.files import ConfigFiles, iter_stamps
from ...config.loading import list_misspelt
from ...config.settings import Settings
from ...db.deliveries import EVENT_PREFIX, list_newest
from ...db.store import Store, open_store
from ...deliveries.webhook_file import read_webhooks
from ...errors import AstrBotError, SettingsError
from ...files.storage.opening import check_storage, open_storage
from ...im.adapter import Bot
from ...im.bots import Bots
from ...im.registry import AdapterTypes
from ...owner.login import load_secret
from ...runtime.clock import to_iso
from . import Finding
from .database import examine_database, examine_keys, examine_stored
from .services import ask_bot, ask_mcp, ask_provider, ask_redis
from .upstream import ask_upstream

#: Minimum free disk space, in bytes. Less is reported.
_LITTLE_BYTES = 512 * 1024 * 1024

#: Patterns of the files and folders that the server opens.
_OWN_FILES = ("*.db*", "*.toml", "secret.key", "configs", "configs/*", "plugins", "plugins/*")


def examine(settings: Settings, *, offline: bool = False) -> Iterator[Finding]:
    """Check everything in the settings, without changes.

    :param offline: Send no request to models, MCP servers, Redis and messengers.
    """
    yield from _examine_variables()
    folder = list(_guard("data directory", lambda: _examine_folder(settings)))
    yield from folder
    if any(one.state == "fail" for one in folder):
        return
    yield from _guard("secret", lambda: _examine_secret(settings))
    yield from _guard("configs", lambda: _examine_configs(settings, offline))
    if not settings.database_url and not settings.database_path.exists():
        yield Finding("database", "fail", "it does not exist yet", "start the server once")
        return
    store = open_store(settings)
    try:
        findings = list(_guard("database", lambda: examine_database(settings, store)))
        yield from findings
        usable = store if all(one.state != "fail" for one in findings) else None
        if usable is not None:
            yield from _guard("keys", lambda: examine_keys(usable))
            yield from _guard("stored", lambda: examine_stored(settings, usable))
        yield from _guard("storage", lambda: _examine_storage(settings))
        if settings.redis_url and offline:
            yield Finding("redis", "off", "not checked: --offline")
        elif settings.redis_url:
            yield ask_redis(settings.redis_url, settings.redis_prefix)
        yield from _guard("bots", lambda: _examine_bots(settings, usable, offline))
        yield from _guard("webhooks", lambda: _examine_webhooks(settings, usable))
    finally:
        store.close()


def _guard(what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Convert an exception of a check to a finding."""
    try:
        yield from look()
    except SettingsError as error:
        remedy = "" if what in ("database", "secret") else "correct this line"
        yield Finding(what, "fail", str(error), remedy)
    except AstrBotError as error:
        yield Finding(what, "fail", error.operator_text or str(error))
    except OSError as error:
        yield Finding(what, "fail", str(error))


def _examine_variables() -> Iterator[Finding]:
    for name, remedy in list_misspelt(os.environ):
        text = f"{name} is no setting and has no effect"
        yield Finding("environment", "warn", text, remedy)


def _examine_folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    if not folder.is_dir():
        remedy = "start the server once, or set another folder in ASTRBOT_DATA_DIR"
        yield Finding("data directory", "fail", f"{folder} does not exist", remedy)
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        remedy = "give the server's user write permission"
        yield Finding("data directory", "fail", f"{folder} is not writable", remedy)
        return
    yield from _find_foreign(folder)
    free_bytes = shutil.disk_usage(folder).free
    text = f"{folder}, {free_bytes // 1024 // 1024} MiB free"
    remedy = "free space: astrbot-api db sweep --delete"
    if free_bytes < settings.min_free_bytes:
        text += ", less than ASTRBOT_MIN_FREE_BYTES: new data is rejected"
        yield Finding("data directory", "fail", text, remedy)
    elif free_bytes < _LITTLE_BYTES:
        yield Finding("data directory", "warn", text, remedy)
    else:
        yield Finding("data directory", "ok", text)


def _find_foreign(folder: Path) -> Iterator[Finding]:
    """Find files that the server's user may not use.

    For example after ``sudo astrbot-api keys create``, or after root has restored a backup.
    """
    for path in sorted(path for pattern in _OWN_FILES for path in folder.glob(pattern)):
        needed, lacks = os.R_OK, "readable"
        if ".db" in path.name:
            needed, lacks = os.R_OK | os.W_OK, "writable"
        if not os.access(path, needed):
            name = f"file {path.relative_to(folder)}"
            remedy = "give it to the server's user (chown)"
            yield Finding(name, "fail", f"{path} is not {lacks}", remedy)


def _examine_secret(settings: Settings) -> Iterator[Finding]:
    """Check the secret of logins and links, but do not create it."""
    if (settings.data_dir / "secret.key").exists():
        load_secret(settings)
    yield from ()


def _examine_configs(settings: Settings, offline: bool) -> Iterator[Finding]:
    folder = settings.data_dir / "configs"
    paths = [path for path, _ in iter_stamps(folder)] if folder.exists() else []
    if not any(path.stem == "default" for path in paths):
        yield Finding("configs", "warn", "configs/default.toml is missing", "start the server once")
    for path in paths:
        yield from _guard(
            f"config {path.stem}",
            lambda path=path: _examine_config(settings, path, offline),  # type: ignore[misc]
        )


def _examine_config(settings: Settings, path: Path, offline: bool) -> Iterator[Finding]:
    config = read_config(path, f"configs/{path.name}")
    what = f"config {config.id}"
    if config.upstream is not None:
        if offline:
            yield Finding(what, "off", "not checked: --offline")
        else:
            yield from ask_upstream(what, config.upstream, settings.admin_names)
        return
    yield Finding(what, "ok", _describe_config(config))
    for provider in config.providers.values():
        name = f"{what}, provider {provider.id}"
        if provider.api_key_env and not provider.resolve_api_key():
            yield Finding(name, "fail", "no API key", f"set the variable {provider.api_key_env}")
        elif offline:
            yield Finding(name, "off", "not checked: --offline")
        else:
            yield ask_provider(what, provider)
    for server in config.mcp.values():
        if offline:
            yield Finding(f"MCP server {server.name}", "off", "not checked: --offline")
        else:
            yield ask_mcp(server)


def _describe_config(config: AgentConfig) -> str:
    provider = config.provider
    model = f", model {provider.model}" if provider.model else ""
    return f"provider {provider.id} ({provider.type}){model}"


def _examine_storage(settings: Settings) -> Iterator[Finding]:
    check_storage(open_storage(settings), settings.files_dir / "tmp")
    yield Finding("storage", "ok", settings.storage_url or "the data directory")


def _examine_bots(settings: Settings, store: Store | None, offline: bool) -> Iterator[Finding]:
    bots = Bots(settings.data_dir, AdapterTypes())
    try:
        bots.file.load()
        configs = ConfigFiles(settings.data_dir)
        for bot in bots.list_bots():
            finding = _examine_bot(bot, configs, store)
            if finding.state not in ("ok", "warn") or (offline and finding.state == "warn"):
                yield finding
            elif offline:
                yield replace(finding, text=f"{finding.text}; not checked: --offline")
            else:
                yield ask_bot(finding, bots.get_running(bot.id)[1])
    finally:
        bots.close()


def _examine_bot(bot: Bot, configs: ConfigFiles, store: Store | None) -> Finding:
    what = f"bot {bot.id}"
    if not bot.enabled:
        return Finding(what, "off", f"{bot.type}, disabled")
    if bot.fault:
        return Finding(what, "fail", bot.fault, "correct this line; no restart is needed")
    if configs.find_config(bot.config) is None:
        text = f"its config {bot.config} does not exist"
        return Finding(what, "fail", text, f"create configs/{bot.config}.toml")
    return _with_deliveries(Finding(what, "ok", bot.type), bot.id, store)


def _examine_webhooks(settings: Settings, store: Store | None) -> Iterator[Finding]:
    for one in read_webhooks(settings.data_dir / "webhooks.toml").values():
        what = f"webhook {one.id}"
        if not one.enabled:
            yield Finding(what, "off", "disabled")
            continue
        finding = Finding(what, "ok", ", ".join(sorted(one.events)))
        yield _with_deliveries(finding, f"{EVENT_PREFIX}{one.id}", store)


def _with_deliveries(finding: Finding, platform_id: str, store: Store | None) -> Finding:
    """Add the status of the last delivery to a finding."""
    if store is None:
        return finding
    with store.read() as db:
        newest = list_newest(db, platform_id, 20)
    if not newest:
        return Finding(finding.what, finding.state, f"{finding.text}; nothing was delivered yet")
    last = newest[0]
    waiting = sum(not one.finished for one in newest)
    more = f", {waiting} of the last {len(newest)} wait" if waiting else ""
    text = f"{finding.text}; last delivery {last.status} at {to_iso(last.updated_at)}{more}"
    if last.error and last.status != "sent":
        return Finding(finding.what, "warn", f"{text}: {last.error}", "see this error")
    return Finding(finding.what, finding.state, text)
