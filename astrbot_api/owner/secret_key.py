"""The file ``secret.key``: signs the owner's logins; only the server's user can read it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ..config.settings import Settings
from ..errors import SettingsError


def load_secret(settings: Settings) -> str:
    """Return the secret from the settings, or else from the file, which is created if missing.

    :raises SettingsError: when the file can be neither read nor created.
    """
    if settings.secret_key:
        return settings.secret_key
    path = settings.data_dir / "secret.key"
    try:
        _make_if_missing(path)
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path.name}: cannot be read or created: {error}") from error
    if len(secret) < 32:
        raise SettingsError(
            f"{path.name}: too short; remove the file, and the server creates a new one"
        )
    return secret


def _make_if_missing(path: Path) -> None:
    if path.exists():
        return
    # Written under a temporary name: another worker must not read an incomplete file.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # another worker was first; use its secret
        except OSError:  # a file system without hard links
            os.replace(temporary, path)
            return
    finally:
        temporary.unlink(missing_ok=True)
