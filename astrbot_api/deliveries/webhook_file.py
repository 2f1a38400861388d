"""``webhooks.toml``: systems that are notified of events. Changes apply without a restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import marshmallow as ma

from ..config.secrets import Secret, load_with_secrets
from ..config.tables import REQUIRED, HttpUrl, key, make_schema, read_tables
from ..config.watched import WatchedFile
from ..errors import SettingsError
from .signing import check_secret

#: Event types that a webhook can subscribe to.
EVENTS = ("message_stored", "run_ended", "approval_required", "delivery_failed")


@dataclass(frozen=True, slots=True)
class Webhook:
    """One ``[[webhook]]`` table."""

    id: str = key(
        REQUIRED,
        ma.validate.Regexp(
            r"[A-Za-z0-9_.-]{1,100}\Z", error="must be 1 to 100 letters, digits, _, . and -"
        ),
    )
    url: str = key(REQUIRED, field=HttpUrl(), secret=True)
    secret: str = key(REQUIRED, field=Secret(validate=check_secret), secret=True)
    events: tuple[str, ...] = key(
        EVENTS, ma.validate.Length(1), each=ma.fields.String(validate=ma.validate.OneOf(EVENTS))
    )
    enabled: bool = True
    timeout_s: float = key(10.0, ma.validate.Range(0.1, 60))


_SCHEMA = make_schema(Webhook)


def read_webhooks(path: Path) -> dict[str, Webhook]:
    """Read the file. A missing file is the same as an empty one.

    :returns: The webhooks by id, including disabled ones.
    :raises SettingsError: One line with the file, the webhook, the key and the error.
    """
    found: dict[str, Webhook] = {}
    for number, table in enumerate(read_tables(path, "webhook"), 1):
        where = f"{path.name}: webhook {number}"
        webhook: Webhook = load_with_secrets(table, _SCHEMA(), where)
        if webhook.id in found:
            raise SettingsError(f"{where}: id: {webhook.id} is used twice")
        found[webhook.id] = webhook
    return found


class WebhookFile(WatchedFile[Mapping[str, Webhook]]):
    """The webhooks of one data directory, reloaded on change; an invalid file is ignored."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir / "webhooks.toml", lambda path, _: read_webhooks(path), {})

    def list_for(self, event: str) -> Sequence[Webhook]:
        """Return the enabled webhooks that subscribe to an event."""
        return [one for one in self.get().values() if one.enabled and event in one.events]

    def find(self, webhook_id: str) -> Webhook | None:
        """Return the webhook with this id, or None if it is missing or disabled."""
        found = self.get().get(webhook_id)
        return found if found is not None and found.enabled else None
