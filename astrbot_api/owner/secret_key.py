"""The file ``secret.key``: signs the owner's logins; only the server's user can read it."""

from __future__ import annotations

import secrets

from ..config.settings import Settings
from ..errors import SettingsError
from ..runtime.private_files import write_new_private_file


def load_secret(settings: Settings) -> str:
    """Return the secret from the settings, or else from the file, which is created if missing.

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
