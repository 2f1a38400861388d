"""What a bot of type ``slack`` may say in ``bots.toml``."""

from __future__ import annotations

import marshmallow as ma

from ...config.secrets import Secret


class SettingsSchema(ma.Schema):
    """Settings of a Slack bot."""

    token = Secret(
        required=True,
        validate=ma.validate.Regexp(
            r"xox[a-z]-[\x21-\x7e]+\Z", error="must be the bot's token, which begins with xoxb-"
        ),
    )
    #: Key of the signatures of events; without it no event is taken.
    signing_secret = Secret(load_default="")
    format = ma.fields.String(
        load_default="markdown", validate=ma.validate.OneOf(("markdown", "plain"))
    )
    #: Whether a mention in a channel is answered in a thread of its own.
    threads = ma.fields.Boolean(load_default=True)
    base_url = ma.fields.Url(
        load_default="https://slack.com/api", schemes={"http", "https"}, require_tld=False
    )
    timeout_s = ma.fields.Integer(load_default=30, validate=ma.validate.Range(1, 600))
