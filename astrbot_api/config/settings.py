"""All settings of the server, with default, bounds and help text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..messages import MEDIA_TYPES

#: Prefix of all keys in ``app.config`` and of all environment variables.
PREFIX = "ASTRBOT_"

MIB = 1024 * 1024
GIB = 1024 * MIB

MIN_PASSWORD_CHARS = 8

_ORIGIN = r"https?://[^/\s*]+"


def _setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    pattern: str = "",
    rule: str = "",
    secret: bool = False,
) -> Any:
    """Return the field of a setting.

    :param pattern: Regular expression of a value other than the default, or of each element of a
        list.
    :param rule: The pattern in words, after "must".
    :param secret: Whether no ``repr`` and no error message may show the value.
    """
    meta = {
        "help": help, "minimum": minimum, "maximum": maximum,
        "pattern": pattern, "rule": rule, "secret": secret,
    }  # fmt: skip
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
        "``postgresql://…`` or ``sqlite:///PATH``. Empty: ``astrbot.db`` in the data directory.",
        # Of two @, PostgreSQL takes what follows the first one as the host, and shows it.
        pattern=r"sqlite:///.*|postgres(ql)?://[^@?]*(@[^@?]*)?(\?.*)?",
        rule="be postgresql://USER:PASSWORD@HOST/DATABASE (@ / ? in the password as %40 %2F %3F) "
        "or sqlite:///PATH",
        secret=True,
    )
    database_pool_size: int = _setting(
        20, "Maximum number of PostgreSQL connections per worker.", minimum=1, maximum=1000
    )
    database_timeout_s: float = _setting(
        5.0, "Time a request waits for a PostgreSQL connection before 503.", minimum=0.1
    )
    url_prefix: str = _setting(
        "",
        "Path before ``/api/v1``, for example ``/bot``. It begins with a slash.",
        pattern="/(.*[^/])?",
        rule="begin with a slash and not end with one, for example /bot",
    )
    heartbeat_s: float = _setting(
        1.0, "Silence after which a stream sends a comment line.", minimum=0.05, maximum=60
    )
    max_json_bytes: int = _setting(
        8 * MIB,
        "Maximum JSON body of a message, else 413. Other routes accept 256 KiB.",
        minimum=1024,
    )
    storage_url: str = _setting(
        "",
        "Storage of attachments: empty for the data directory, ``s3://BUCKET/PREFIX`` for S3.",
        pattern=r"s3://[^/\s]+.*",
        rule="be s3://BUCKET/PREFIX or empty",
        secret=True,
    )
    max_file_bytes: int = _setting(128 * MIB, "Maximum size of an attachment, else 413.", minimum=1)
    max_chunked_file_bytes: int = _setting(
        512 * MIB, "Maximum size of an attachment uploaded in chunks, else 413.", minimum=1
    )
    max_bytes_per_key: int = _setting(
        64 * GIB,
        "Maximum total size of one key's attachments, else 413. 0: no limit.",
        minimum=0,
    )
    max_all_file_bytes: int = _setting(
        0, "Maximum total size of all attachments, else 413. 0: no limit.", minimum=0
    )
    max_stored_bytes_per_key: int = _setting(
        8 * GIB,
        "Maximum size of one key's messages, sessions, notes, deliveries and idempotency records, "
        "else 413. 0: no limit.",
        minimum=0,
    )
    max_stored_bytes: int = _setting(
        64 * GIB, "The same for all keys together, else 413. 0: no limit.", minimum=0
    )
    max_sessions_per_key: int = _setting(
        1_000_000, "Maximum number of sessions per key, else 413. 0: no limit.", minimum=0
    )
    max_growth_bytes_per_key: int = _setting(
        64 * MIB,
        "Maximum growth per minute of one key's messages, sessions, notes, deliveries and "
        "idempotency records, else 429. 0: no limit.",
        minimum=0,
    )
    max_growth_bytes: int = _setting(
        512 * MIB, "The same for all keys together, else 429. 0: no limit.", minimum=0
    )
    min_free_bytes: int = _setting(
        256 * MIB,
        "Minimum free space on the data directory's disk; with less, new data returns 413. 0: any.",
        minimum=0,
    )
    files_origin: str = _setting(
        "",
        "Separate origin for attachments in browsers, such as ``https://files.example.com``.",
        pattern=_ORIGIN,
        rule="be an origin such as https://files.example.com",
    )
    allowed_file_types: list[str] = _setting(
        list(MEDIA_TYPES),
        "Types that may be uploaded. Others return 415.",
        pattern="|".join(MEDIA_TYPES),
        rule="contain only image, record, video and file",
    )
    unused_file_days: int = _setting(
        30, "Minimum age at which ``db sweep`` removes attachments without a message.", minimum=0
    )
    accel_redirect_prefix: str = _setting(
        "",
        "Path of nginx's ``internal`` location, which then sends attachments itself.",
        pattern="/.*",
        rule="begin with a slash",
    )
    redis_url: str = _setting(
        "",
        "``redis://…``: Redis carries run events and notifications between hosts.",
        pattern=r"rediss?://[^/?]*(/[0-9]*)?(\?.*)?|unix://.*",
        rule="be redis://[:PASSWORD@]HOST[:PORT]/NUMBER (@ / ? in the password as %40 %2F %3F), "
        "rediss://… or unix:///PATH",
        secret=True,
    )
    redis_prefix: str = _setting(
        "astrbot", "Prefix of all Redis keys. Independent servers need different prefixes."
    )
    max_username_chars: int = _setting(255, "Maximum username length.", minimum=1, maximum=4096)
    max_session_id_chars: int = _setting(255, "Maximum session_id length.", minimum=1, maximum=4096)
    max_display_name_chars: int = _setting(
        255, "Maximum length of a session's title.", minimum=1, maximum=4096
    )
    max_message_chars: int = _setting(
        2_000_000, "Maximum text length of one message, all segments together.", minimum=1
    )
    max_segments: int = _setting(100, "Maximum number of segments per message.", minimum=1)
    max_image_side_px: int = _setting(
        1568,
        "Maximum side length of an image for a model. Larger images are scaled down.",
        minimum=64,
        maximum=8192,
    )
    max_reply_chars: int = _setting(
        2_000_000,
        "Maximum length of one turn's answer and reasoning. The rest is cut off.",
        minimum=100,
    )
    max_runs_per_worker: int = _setting(
        2000, "Maximum number of open turns per worker, else 503.", minimum=1
    )
    websocket_ping_s: float = _setting(
        25.0,
        "Silence after which a WebSocket is pinged. It is closed after the same time without an "
        "answer, or if the client does not read for that long.",
        minimum=0.05,
    )
    websocket_idle_s: float = _setting(
        3600.0,
        "Time that a WebSocket without a turn stays open if the client sends nothing.",
        minimum=0.05,
    )
    max_blocking_s: float = _setting(
        600.0,
        "Time a non-streaming response (``response_mode`` ``blocking``) waits for its turn before "
        "504. The turn continues.",
        minimum=0.05,
    )
    max_turns_per_session: int = _setting(
        20, "Maximum number of running and waiting turns per session, else 429.", minimum=1
    )
    max_runs_per_key: int = _setting(
        0, "Maximum number of running and waiting turns per key, else 429. 0: no limit.", minimum=0
    )
    max_streams_per_worker: int = _setting(
        9000, "Maximum number of open streams per worker, else 503.", minimum=1
    )
    max_streams_per_key: int = _setting(
        0, "Maximum number of one key's streams per worker, else 429. 0: no limit.", minimum=0
    )
    max_stream_lag_s: float = _setting(
        30.0,
        "Time after which a stream is closed if its client does not read. The client may resume.",
        minimum=1,
    )
    run_log_keep_s: float = _setting(
        3600.0, "Time for which an ended run's events can be resumed.", minimum=1
    )
    admin_names: list[str] = _setting(
        ["astrbot"], "Usernames that only a key with the scope ``chat:admin`` may use."
    )
    chat_page: bool = _setting(
        False,
        "Whether ``/chat`` shows the chat widget as a page. Users need a link with a key, or a "
        "login of the embedding application.",
    )
    owner_access: str = _setting(
        "pages",
        "``pages``: the owner's pages and the admin API. ``api``: only the admin API. "
        "``off``: neither.",
        pattern="pages|api|off",
        rule="be pages, api or off",
    )
    owner_name: str = _setting("astrbot", "The owner's login name.")
    admin_password: str = _setting(
        "",
        "The owner's password at the first start, at least 8 characters. Empty: a random one is "
        "generated and printed. Later changes have no effect.",
        pattern=f".{{{MIN_PASSWORD_CHARS},}}",
        rule=f"have at least {MIN_PASSWORD_CHARS} characters",
        secret=True,
    )
    secret_key: str = _setting(
        "",
        "Signs the owner's logins. At least 32 random characters, the same on all hosts. Empty: "
        "the file ``secret.key`` in the data directory, created at the first start.",
        pattern=".{32,}",
        rule="have at least 32 random characters",
        secret=True,
    )
    owner_session_h: float = _setting(24.0, "Lifetime of a login.", minimum=0.01, maximum=8760)
    cors_origins: list[str] = _setting(
        [],
        "Web origins whose pages may call ``/api/v1``: ``https://shop.example``, or ``*`` for any. "
        "Cookies are never allowed across origins. Pages use a session key.",
        pattern=rf"\*|{_ORIGIN}",
        rule="contain origins such as https://shop.example, or *",
    )
    limits_url: str = _setting(
        "",
        "Counter of requests per minute, for keys with such a limit: ``memory://`` (per worker) or "
        "``redis://HOST:PORT``. Empty: Redis if ``ASTRBOT_REDIS_URL`` is set, else the database.",
        pattern="(memory|rediss?|unix)://.*",
        rule="be memory://, redis://HOST:PORT or empty",
        secret=True,
    )
    response_days: int = _setting(
        30,
        "Time for which responses of OpenAI's API can be retrieved and continued. Responses in a "
        "conversation are kept, and so are all sessions.",
        minimum=1,
        maximum=36500,
    )
    openai_at_root: bool = _setting(
        False, "Also serve OpenAI's API at ``/v1``, for clients that only accept a host."
    )
    audit_days: int = _setting(
        90, "Time for which the audit log and key usage are kept.", minimum=1, maximum=36500
    )
    owner_approves: bool = _setting(
        False, "Whether the owner may decide about pending tool calls of other users."
    )
    worker_lease_s: float = _setting(
        15.0,
        "Time without a heartbeat after which other workers take over a worker's turns.",
        minimum=1,
    )
    approval_s: float = _setting(
        86_400.0,
        "Time a tool call waits for a person's approval. It is then rejected.",
        minimum=1,
    )
    max_pickups: int = _setting(
        2,
        "How often a turn is resumed after its worker died. It then ends with ``run_interrupted``.",
        minimum=0,
        maximum=100,
    )
    max_hook_bytes: int = _setting(
        4 * MIB, "Maximum size of a messenger's event, else 413.", minimum=1024
    )
    im_wait_s: float = _setting(
        10.0,
        "Time ``im/message`` waits for the messenger before it returns 202 and ``queued``.",
        minimum=0,
        maximum=300,
    )
    im_max_attempts: int = _setting(
        10, "Maximum number of attempts to deliver a message or an event.", minimum=1, maximum=100
    )
    im_retry_s: float = _setting(
        2.0,
        "Pause before the second delivery attempt. It doubles for each further attempt. For an "
        "event, it becomes four times as long.",
        minimum=0.01,
        maximum=3600,
    )
    im_max_targets: int = _setting(
        100, "Maximum number of ``umos`` per ``im/message`` request.", minimum=1, maximum=10_000
    )
    im_max_queued: int = _setting(
        1000, "Maximum number of messages waiting for one target, else 429.", minimum=1
    )
    im_keep_days: float = _setting(
        30, "Time for which finished deliveries are kept.", minimum=0, maximum=36_500
    )
    legacy_error_status: bool = _setting(
        False, "Return business errors with HTTP 200, as AstrBot 4.25 does."
    )
    proxy_hops: int = _setting(
        0,
        "Number of reverse proxies in front that set ``X-Forwarded-*``. 0 trusts none.",
        minimum=0,
        maximum=10,
    )
    mcp_socket: str = _setting(
        "", "Unix socket of the MCP sidecar. ``astrbot-api serve`` sets it for its workers."
    )
    metrics: bool = _setting(True, "Serve ``/metrics``.")
    metrics_token: str = _setting(
        "",
        "Token that ``/metrics`` requires, as ``Authorization: Bearer``. Empty: only this machine "
        "may read it.",
        secret=True,
    )
    log_format: str = _setting(
        "plain",
        "``plain`` lines, or ``json`` with one object per line.",
        pattern="plain|json",
        rule="be plain or json",
    )
    access_log: bool = _setting(True, "Log one line per request.")

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.metadata["pattern"] and value != item.default:
                _check_pattern(item.name, value, item.metadata)
        if self.accel_redirect_prefix and self.storage_url:
            raise SettingsError(
                "ASTRBOT_ACCEL_REDIRECT_PREFIX only works with attachments in the data directory; "
                "remove it, or ASTRBOT_STORAGE_URL"
            )

    @property
    def uses_postgres(self) -> bool:
        """Whether the database is PostgreSQL."""
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
        """Folder of the attachments and of unfinished uploads."""
        return self.data_dir / "files"


def _check_pattern(name: str, value: Any, meta: Mapping[str, Any]) -> None:
    for one in value if isinstance(value, list) else [value]:
        if re.fullmatch(meta["pattern"], one, re.DOTALL):
            continue
        got = f"; got {one!r}"
        if meta["secret"]:
            # A URL may contain a password.
            got = f"; got the scheme {one.partition(':')[0]!r}" if "://" in meta["pattern"] else ""
        raise SettingsError(f"{PREFIX}{name.upper()} must {meta['rule']}{got}")
