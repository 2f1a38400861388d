"""Every setting of the server: name, default, unit, check, one sentence.

A setting ``heartbeat_s`` is the Flask key ``ASTRBOT_HEARTBEAT_S`` and the
environment variable of the same name. What is passed to
:class:`~astrbot_api.AstrBotAPI` wins over ``app.config``, which wins over
the environment, which wins over the default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from ..errors import SettingsError

#: What every key of ``app.config`` and every environment variable begins with.
PREFIX = "ASTRBOT_"

MIB = 1024 * 1024
GIB = 1024 * MIB

#: What a database's URL begins with.
DATABASE_SCHEMES = ("sqlite:///", "postgresql://", "postgres://")

#: What a Redis's URL begins with.
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")

#: What an attachment can be; ``record`` is audio.
ATTACHMENT_TYPES = ("image", "record", "video", "file")

#: What ``owner_access`` can be.
OWNER_ACCESS = ("pages", "api", "off")

#: Shortest password of an owner.
MIN_PASSWORD_CHARS = 8


def _setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    secret: bool = False,
) -> Any:
    meta = {"help": help, "minimum": minimum, "maximum": maximum}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=meta)
    return field(default=default, metadata=meta, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one application. The suffix of a name is its unit."""

    data_dir: Path = _setting(
        Path("./data"), "Folder of the database, the configs, the bots and the files."
    )
    database_url: str = _setting(
        "",
        "``postgresql://…`` or ``sqlite:///PATH``; empty: ``astrbot.db`` in the data directory.",
    )
    database_pool_size: int = _setting(
        20, "Most connections to PostgreSQL of one worker.", minimum=1, maximum=1000
    )
    database_timeout_s: float = _setting(
        5.0, "How long a request waits for a connection to PostgreSQL; then 503.", minimum=0.1
    )
    url_prefix: str = _setting(
        "", "What stands before ``/api/v1``, for example ``/bot``; it begins with a slash."
    )
    heartbeat_s: float = _setting(
        1.0, "Silence after which a stream sends a comment line.", minimum=0.05, maximum=60
    )
    max_json_bytes: int = _setting(
        8 * MIB,
        "Largest JSON body with a message; above it 413. Other routes take 256 KiB.",
        minimum=1024,
    )
    storage_url: str = _setting(
        "", "Where attachments lie: empty is the data directory, ``s3://BUCKET/PREFIX`` is S3."
    )
    max_file_bytes: int = _setting(128 * MIB, "Largest attachment; above it 413.", minimum=1)
    max_chunked_file_bytes: int = _setting(
        512 * MIB, "Largest attachment that is uploaded in chunks; above it 413.", minimum=1
    )
    max_bytes_per_key: int = _setting(
        64 * GIB,
        "Most that the attachments of one key have together; above it 413; 0: no limit.",
        minimum=0,
    )
    max_all_file_bytes: int = _setting(
        0, "Most that all attachments have together; above it 413; 0: no limit.", minimum=0
    )
    max_stored_bytes_per_key: int = _setting(
        8 * GIB,
        "Most that messages, sessions, notes, deliveries and remembered requests of one key take; "
        "above it 413; 0: no limit.",
        minimum=0,
    )
    max_stored_bytes: int = _setting(
        64 * GIB, "The same of all keys together; above it 413; 0: no limit.", minimum=0
    )
    max_sessions_per_key: int = _setting(
        1_000_000, "Most sessions of one key; above it 413; 0: no limit.", minimum=0
    )
    max_growth_bytes_per_key: int = _setting(
        64 * MIB,
        "By how much messages, sessions, notes, deliveries and remembered requests of one key may "
        "grow within a minute; above it 429; 0: no limit.",
        minimum=0,
    )
    max_growth_bytes: int = _setting(
        512 * MIB, "The same of all keys together; above it 429; 0: no limit.", minimum=0
    )
    min_free_bytes: int = _setting(
        256 * MIB,
        "Free space of the data directory's disk below which nothing new is taken: 413; 0: any.",
        minimum=0,
    )
    files_origin: str = _setting(
        "",
        "Second origin, such as ``https://files.example.com``, at which browsers open attachments.",
    )
    allowed_file_types: list[str] = _setting(
        list(ATTACHMENT_TYPES), "What may be uploaded; anything else: 415."
    )
    unused_file_days: int = _setting(
        30, "Age from which ``db sweep`` takes attachments that no message uses.", minimum=0
    )
    accel_redirect_prefix: str = _setting(
        "", "Let nginx send attachments: the path of its ``internal`` location."
    )
    redis_url: str = _setting(
        "", "``redis://…``: the events of runs, and wake-ups, go over Redis between hosts."
    )
    redis_prefix: str = _setting(
        "astrbot", "What every key in Redis begins with; two servers of different worlds differ."
    )
    max_username_chars: int = _setting(255, "Longest username.", minimum=1, maximum=4096)
    max_session_id_chars: int = _setting(255, "Longest session_id.", minimum=1, maximum=4096)
    max_display_name_chars: int = _setting(
        255, "Longest title of a session.", minimum=1, maximum=4096
    )
    max_message_chars: int = _setting(
        2_000_000, "Longest text of one message, all its segments together.", minimum=1
    )
    max_segments: int = _setting(100, "Most segments of one message.", minimum=1)
    max_image_side_px: int = _setting(
        1568,
        "Longest side of a picture that a model is given; longer ones are scaled down.",
        minimum=64,
        maximum=8192,
    )
    max_reply_chars: int = _setting(
        2_000_000,
        "Longest answer and thinking of one turn; a model that says more is cut off.",
        minimum=100,
    )
    max_runs_per_worker: int = _setting(
        2000, "Most turns that one worker has open at once; above it 503.", minimum=1
    )
    websocket_ping_s: float = _setting(
        25.0,
        "Silence after which a WebSocket is pinged; after another it is closed, as is one whose "
        "client takes nothing for that long.",
        minimum=0.05,
    )
    websocket_idle_s: float = _setting(
        3600.0,
        "How long a WebSocket without a turn stays open on which the client sends nothing.",
        minimum=0.05,
    )
    max_blocking_s: float = _setting(
        600.0,
        "How long an answer that is not a stream (``response_mode`` ``blocking``) waits for its "
        "turn; after it 504, and the turn goes on.",
        minimum=0.05,
    )
    max_turns_per_session: int = _setting(
        20, "Most turns of one session that run or wait at once; above it 429.", minimum=1
    )
    max_runs_per_key: int = _setting(
        0, "Most turns of one key that run or wait at once; above it 429; 0: no limit.", minimum=0
    )
    max_streams_per_worker: int = _setting(
        9000, "Most streams that one worker has open at once; above it 503.", minimum=1
    )
    max_streams_per_key: int = _setting(
        0, "Most streams of one key that one worker has open; above it 429; 0: no limit.", minimum=0
    )
    max_stream_lag_s: float = _setting(
        30.0,
        "Time after which a stream is closed whose client takes nothing; it may resume.",
        minimum=1,
    )
    run_log_keep_s: float = _setting(
        3600.0, "Time for which the events of a run that has ended can be resumed.", minimum=1
    )
    admin_names: list[str] = _setting(
        ["astrbot"], "Usernames that only a key with the scope ``chat:admin`` may speak as."
    )
    chat_page: bool = _setting(
        False,
        "Whether ``/chat`` shows the chat widget as a page, for users to whom you gave a link with "
        "a key, or whom the embedding application has logged in.",
    )
    owner_access: str = _setting(
        "pages",
        "``pages``: the owner's pages and admin API; ``api``: the admin API alone; "
        "``off``: neither.",
    )
    owner_name: str = _setting("astrbot", "The name that the owner logs in with.")
    admin_password: str = _setting(
        "",
        "The owner's password at the first start, at least 8 characters; empty: a random one is "
        "made and printed. It changes nothing later.",
        secret=True,
    )
    secret_key: str = _setting(
        "",
        "Signs the owner's logins; at least 32 random characters, the same on all hosts. Empty: "
        "the file ``secret.key`` of the data directory, made at the first start.",
        secret=True,
    )
    owner_session_h: float = _setting(
        24.0, "Time after which a login ends.", minimum=0.01, maximum=8760
    )
    cors_origins: list[str] = _setting(
        [],
        "Web origins whose pages may call ``/api/v1``: ``https://shop.example``, or ``*`` for any. "
        "Cookies are never allowed across origins: a page sends a session key.",
    )
    limits_url: str = _setting(
        "",
        "Where the requests a minute of keys that limit them are counted: ``memory://`` (each "
        "worker by itself) or ``redis://HOST:PORT``. Empty: Redis if ``ASTRBOT_REDIS_URL`` is set, "
        "else the database.",
        secret=True,
    )
    response_days: int = _setting(
        30,
        "Time for which responses of OpenAI's API can be retrieved and continued; those of a "
        "conversation stay. Their sessions stay in any case.",
        minimum=1,
        maximum=36500,
    )
    openai_at_root: bool = _setting(
        False, "Answer OpenAI's API below ``/v1``, too: for clients whose base URL is the host."
    )
    audit_days: int = _setting(
        90, "Time for which the audit, and the use of keys, is kept.", minimum=1, maximum=36500
    )
    owner_approves: bool = _setting(
        False, "Whether the owner may decide tool calls that wait in turns of other users."
    )
    worker_lease_s: float = _setting(
        15.0,
        "Time after which another worker goes on with the turns of one that fell silent.",
        minimum=1,
    )
    approval_s: float = _setting(
        86_400.0,
        "How long a tool call waits for a person's yes; then it counts as rejected.",
        minimum=1,
    )
    max_pickups: int = _setting(
        2,
        "How often a turn goes on after its worker died; then it ends with ``run_interrupted``.",
        minimum=0,
        maximum=100,
    )
    max_hook_bytes: int = _setting(
        4 * MIB, "Largest event of a messenger; above it 413.", minimum=1024
    )
    im_wait_s: float = _setting(
        10.0,
        "How long ``im/message`` waits for the messenger's answer; then 202 and ``queued``.",
        minimum=0,
        maximum=300,
    )
    im_max_attempts: int = _setting(
        8, "Attempts to deliver a message until it has failed.", minimum=1, maximum=100
    )
    im_retry_s: float = _setting(
        2.0,
        "Pause before the second attempt to deliver; each further one is twice as long.",
        minimum=0.01,
        maximum=3600,
    )
    im_max_targets: int = _setting(
        100, "Most ``umos`` of one ``im/message``.", minimum=1, maximum=10_000
    )
    im_max_queued: int = _setting(
        1000, "Most messages that wait for one target; above it 429.", minimum=1
    )
    im_keep_days: float = _setting(
        30, "Time for which finished deliveries are kept.", minimum=0, maximum=36_500
    )
    legacy_error_status: bool = _setting(
        False, "Answer business errors with HTTP 200, as AstrBot 4.25 does."
    )
    proxy_hops: int = _setting(
        0,
        "Reverse proxies in front that set ``X-Forwarded-*``; 0 trusts none.",
        minimum=0,
        maximum=10,
    )
    mcp_socket: str = _setting(
        "", "Unix socket of the MCP sidecar; ``astrbot-api serve`` sets it for its workers."
    )
    metrics: bool = _setting(True, "Serve ``/metrics``.")
    metrics_token: str = _setting(
        "",
        "Token that ``/metrics`` demands, as ``Authorization: Bearer``; empty: it answers "
        "this machine alone.",
    )
    log_format: str = _setting("plain", "``plain`` lines, or ``json``: one object a line.")
    access_log: bool = _setting(True, "Write one line a request to the log.")

    def __post_init__(self) -> None:
        if self.url_prefix and (
            not self.url_prefix.startswith("/") or self.url_prefix.endswith("/")
        ):
            raise SettingsError(
                "ASTRBOT_URL_PREFIX must begin with a slash and not end with one, "
                f"for example /bot; got {self.url_prefix!r}"
            )
        if self.database_url and not self.database_url.startswith(DATABASE_SCHEMES):
            scheme = self.database_url.partition(":")[0]
            raise SettingsError(
                "ASTRBOT_DATABASE_URL must be postgresql://USER:PASSWORD@HOST/DATABASE or "
                f"sqlite:///PATH; got the scheme {scheme!r}"
            )
        if self.redis_url and not self.redis_url.startswith(REDIS_SCHEMES):
            scheme = self.redis_url.partition(":")[0]
            raise SettingsError(
                "ASTRBOT_REDIS_URL must be redis://[:PASSWORD@]HOST[:PORT]/NUMBER, rediss://… "
                f"or unix:///PATH; got the scheme {scheme!r}"
            )
        if self.owner_access not in OWNER_ACCESS:
            raise SettingsError(
                f"ASTRBOT_OWNER_ACCESS must be pages, api or off; got {self.owner_access!r}"
            )
        if self.admin_password and len(self.admin_password) < MIN_PASSWORD_CHARS:
            raise SettingsError(
                f"ASTRBOT_ADMIN_PASSWORD must have at least {MIN_PASSWORD_CHARS} characters"
            )
        for origin in self.cors_origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s*]+", origin):
                raise SettingsError(
                    "ASTRBOT_CORS_ORIGINS must have origins such as https://shop.example, or *; "
                    f"got {origin!r}"
                )
        if self.files_origin and not re.fullmatch(r"https?://[^/\s*]+", self.files_origin):
            raise SettingsError(
                "ASTRBOT_FILES_ORIGIN must be an origin such as https://files.example.com; "
                f"got {self.files_origin!r}"
            )
        if self.limits_url and not re.match(r"(memory|rediss?|unix)://", self.limits_url):
            scheme = self.limits_url.partition(":")[0]
            raise SettingsError(
                "ASTRBOT_LIMITS_URL must be memory://, redis://HOST:PORT or empty; "
                f"got the scheme {scheme!r}"
            )
        if self.secret_key and len(self.secret_key) < 32:
            raise SettingsError("ASTRBOT_SECRET_KEY must have at least 32 random characters")
        if self.log_format not in ("plain", "json"):
            raise SettingsError(f"ASTRBOT_LOG_FORMAT must be plain or json; got {self.log_format}")
        self._check_storage()

    def _check_storage(self) -> None:
        if self.storage_url and not re.match(r"s3://[^/\s]+", self.storage_url):
            scheme = self.storage_url.partition(":")[0]
            raise SettingsError(
                "ASTRBOT_STORAGE_URL must be s3://BUCKET/PREFIX or empty; "
                f"got the scheme {scheme!r}"
            )
        unknown = set(self.allowed_file_types) - set(ATTACHMENT_TYPES)
        if unknown:
            raise SettingsError(
                "ASTRBOT_ALLOWED_FILE_TYPES may have image, record, video and file; "
                f"got {', '.join(sorted(unknown))}"
            )
        prefix = self.accel_redirect_prefix
        if prefix and (not prefix.startswith("/") or self.storage_url):
            raise SettingsError(
                "ASTRBOT_ACCEL_REDIRECT_PREFIX must begin with a slash, and works with "
                f"attachments in the data directory only; got {prefix!r}"
            )

    @property
    def uses_postgres(self) -> bool:
        """Whether the state is in PostgreSQL."""
        return self.database_url.startswith(("postgresql://", "postgres://"))

    @property
    def database_path(self) -> Path:
        """Path of the SQLite file."""
        if self.database_url:
            return Path(self.database_url.removeprefix("sqlite:///"))
        return self.data_dir / "astrbot.db"

    @property
    def journal_path(self) -> Path:
        """Path of the SQLite file with the runs' events."""
        if self.database_url.startswith("sqlite:///"):
            return self.database_path.with_name("events.db")
        return self.data_dir / "events.db"

    @property
    def files_dir(self) -> Path:
        """Folder of the attachments, and of those that are on their way in."""
        return self.data_dir / "files"


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    app_config: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Collect the settings from their three places and check them.

    :param overrides: By field name (``heartbeat_s``); these win.
    :param app_config: A Flask configuration, by key (``ASTRBOT_HEARTBEAT_S``).
    :param environ: Environment variables; ``os.environ`` by default.
    :raises SettingsError: One line that names the setting, what was found
        and what was expected.
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
            raw = environ[key]
        else:
            continue
        value = _convert(key, raw, hints[item.name])
        _check_range(key, value, item.metadata)
        values[item.name] = value
    if overrides:
        unknown = ", ".join(sorted(overrides))
        raise SettingsError(f"unknown setting: {unknown}; see astrbot_api.config.settings.Settings")
    return Settings(**values)


_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def _convert(key: str, raw: Any, kind: Any) -> Any:
    """Turn text (or a value of the right type) into what the field holds."""
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
            return float(raw)
        if kind is Path:
            return Path(raw).expanduser()
        if kind == list[str]:
            items = raw.split(",") if isinstance(raw, str) else list(raw)
            return [str(item).strip() for item in items if str(item).strip()]
        return str(raw)
    except (TypeError, ValueError) as error:
        expected = getattr(kind, "__name__", str(kind))
        raise SettingsError(f"{key} must be of type {expected}; got {raw!r}") from error


def _check_range(key: str, value: Any, meta: Mapping[str, Any]) -> None:
    low, high = meta["minimum"], meta["maximum"]
    if low is not None and value < low:
        raise SettingsError(f"{key} must be at least {low}; got {value}")
    if high is not None and value > high:
        raise SettingsError(f"{key} must be at most {high}; got {value}")
