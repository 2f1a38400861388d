"""The owner's login: password, throttle, sessions and their signed tokens."""

from __future__ import annotations

import hmac
import math
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import peewee
from itsdangerous import BadSignature, URLSafeSerializer

from ..config.settings import MIN_PASSWORD_CHARS, Settings
from ..db import owners
from ..db.audit import AuditEntry, write_audited
from ..db.store import Store
from ..errors import ApiError, SettingsError
from ..runtime.addresses import name_customer
from ..runtime.clock import now_us
from ..runtime.private_files import write_new_private_file
from .passwords import MAX_PASSWORD_CHARS, hash_password, verify_password

#: Window in which failed logins are counted, in microseconds.
_WINDOW_US = 15 * 60 * 1_000_000

#: Maximum number of failed logins per window and address, or per known browser.
_MAX_OF_ADDRESS = 10

#: After this many failures of a name in a window, each further attempt waits for ``_WAIT_S``
#: seconds. A name is never locked, because strangers could then lock its owner out.
_QUICK_OF_NAME = 20
_WAIT_S = 2.0

#: Maximum number of slowed attempts in this process whose password is not yet checked.
_MAX_WAITING = 20

#: The text of the recorded server. Clients show it.
_WRONG = "用户名或密码错误"


@dataclass(frozen=True, slots=True)
class Login:
    """A login that is still valid."""

    name: str
    session_key: str


class OwnerLogin:
    """Logs the owner in and out, for all workers of an application."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._wait = time.sleep
        self._waiting = 0
        # Strangers' passwords are checked one at a time, so that a known browser finds a thread.
        self._of_strangers = threading.Lock()

    @cached_property
    def _secret(self) -> str:
        # Only on the first login: most embedding applications have no owner.
        return load_secret(self._settings)

    @cached_property
    def _signer(self) -> URLSafeSerializer:
        return URLSafeSerializer(self._secret, salt="astrbot-api owner's login")

    @property
    def session_s(self) -> int:
        """Lifetime of a login, in seconds."""
        return int(self._settings.owner_session_h * 3600)

    def has_owner(self) -> bool:
        with self._store.read() as db:
            return owners.has_owner(db)

    def log_in(self, name: str, password: str, address: str, browser: str = "") -> str:
        """Check a password and start a session.

        The attempt is counted before the password is checked, so that parallel
        attempts cannot exceed the limit.

        :param browser: The result of :meth:`sign_browser` after an earlier login, or empty.
        :returns: The token of the login.
        :raises ApiError: ``login_failed`` or ``too_many_logins``.
        """
        subject = self._find_browser(browser, name) or f"address {name_customer(address)}"
        is_slow = self._throttle(name, address, subject)
        with self._store.read() as db:
            known = owners.find_password_hash(db, name)
        slowed_down = self._slowed_down() if is_slow else nullcontext()
        with slowed_down, nullcontext() if _is_browser(subject) else self._of_strangers:
            right = verify_password(known, password)
        if not right:
            self._note("login_failed", name, address)
            raise ApiError("login_failed", _WRONG)
        session_key = secrets.token_urlsafe(24)

        def job(db: peewee.Database) -> None:
            owners.forget_failures(db, subject)
            owners.forget_failures(db, f"name {name}")
            owners.begin_session(db, session_key, name, address, self.session_s * 1_000_000)

        write_audited(self._store, job, lambda _: AuditEntry("login", name, address))
        return str(self._signer.dumps(session_key))

    def find_login(self, token: str) -> Login | None:
        """Return the login of a token, or None if it is forged or has ended."""
        try:
            session_key = self._signer.loads(token)
        except BadSignature:
            return None
        with self._store.read() as db:
            name = owners.find_session_name(db, session_key)
        return None if name is None else Login(name, session_key)

    def log_out(self, login: Login, address: str) -> None:
        """End a login. Its token is invalid afterwards."""
        entry = AuditEntry("logout", login.name, address)
        write_audited(
            self._store,
            lambda db: owners.end_session(db, login.session_key),
            lambda ended: entry if ended else None,
        )

    def csrf_token(self, login: Login) -> str:
        """Return the token that a page must send with every request that changes data."""
        text = f"csrf {login.session_key}"
        return hmac.new(self._secret.encode(), text.encode(), "sha256").hexdigest()

    def is_csrf_token(self, login: Login, token: str) -> bool:
        return hmac.compare_digest(self.csrf_token(login).encode(), token.encode())

    def sign_browser(self, name: str, before: str) -> str:
        """Return a signed text that identifies a browser; its failed logins are counted apart.

        :param before: The text the browser already has. It is kept if it is valid for this name.
        """
        known = self._find_browser(before, name)
        return before if known else str(self._browsers.dumps([name, secrets.token_urlsafe(12)]))

    @cached_property
    def _browsers(self) -> URLSafeSerializer:
        return URLSafeSerializer(self._secret, salt="astrbot-api browser of an owner")

    def _find_browser(self, signed: str, name: str) -> str | None:
        """Return the subject for counting a known browser's failures, or None if it is unknown."""
        try:
            of_name, browser = self._browsers.loads(signed)
        except (BadSignature, ValueError):
            return None
        return f"browser {browser}" if of_name == name else None

    def _throttle(self, name: str, address: str, subject: str) -> bool:
        """Count an attempt. Return whether it must be slowed down: its name is under attack.

        :raises ApiError: ``too_many_logins``.
        """
        name_subject = f"name {name[:200]}"
        of_stranger = not _is_browser(subject)

        def job(db: peewee.Database) -> tuple[tuple[int, int], int]:
            counted = owners.count_attempt(db, subject, _WINDOW_US)
            if counted[0] > _MAX_OF_ADDRESS or not of_stranger:
                return counted, 0  # a blocked address or a known browser does not delay others
            return counted, owners.count_attempt(db, name_subject, _WINDOW_US)[0]

        (failures, until), of_name = self._store.write(job)
        if failures > _MAX_OF_ADDRESS:
            if failures == _MAX_OF_ADDRESS + 1:
                self._note("login_throttled", name, address)
            raise _too_many(max(1, math.ceil((until - now_us()) / 1_000_000)))
        if of_name == _QUICK_OF_NAME + 1:
            self._note("login_throttled", name, address)
        return of_name > _QUICK_OF_NAME

    @contextmanager
    def _slowed_down(self) -> Iterator[None]:
        """Wait before the password is checked, and count as waiting until it was checked.

        :raises ApiError: ``too_many_logins``.
        """
        if self._waiting >= _MAX_WAITING:
            raise _too_many(math.ceil(_WAIT_S))
        self._waiting += 1
        try:
            self._wait(_WAIT_S)
            yield
        finally:
            self._waiting -= 1

    def _note(self, action: str, name: str, address: str) -> None:
        AuditEntry(action, name, address).write(self._store)


def _is_browser(subject: str) -> bool:
    """Return whether attempts are counted for a known browser, not for an address."""
    return subject.startswith("browser ")


def _too_many(wait_s: int) -> ApiError:
    return ApiError(
        "too_many_logins", f"too many logins failed; try again in {wait_s} s", retry_after_s=wait_s
    )


def create_first_owner(settings: Settings, store: Store) -> None:
    """Create the owner of a new server, with the password of the settings."""
    with store.read() as db:
        if owners.has_owner(db):
            return
    password_hash = hash_password(settings.admin_password)
    store.write(lambda db: owners.create_owner(db, settings.owner_name, password_hash))


def change_password(store: Store, name: str, password: str, *, actor: str) -> None:
    """Change an owner's password and end all existing logins.

    :raises SettingsError: when the password is too short or too long.
    """
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise SettingsError(
            f"a password must have {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters"
        )
    password_hash = hash_password(password)
    write_audited(
        store,
        lambda db: owners.set_password(db, name, password_hash),
        lambda _: AuditEntry("password_set", actor, subject=name),
    )


def load_secret(settings: Settings) -> str:
    """Return the secret from the settings, or else from ``secret.key``, created if missing.

    It signs logins, visitors and links to files. Only the server's user can read the file.

    :raises SettingsError: when the file can be neither read nor created.
    """
    if settings.secret_key:
        return settings.secret_key
    path = settings.data_dir / "secret.key"
    try:
        write_new_private_file(path, secrets.token_urlsafe(48) + "\n")
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path.name}: cannot be read or created: {error}") from error
    if len(secret) < 32:
        raise SettingsError(
            f"{path.name}: too short; remove the file, and the server creates a new one"
        )
    return secret
