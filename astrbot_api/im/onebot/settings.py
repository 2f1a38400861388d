"""What a bot of type ``onebot`` may say in ``bots.toml``."""

from __future__ import annotations

import marshmallow as ma

from ...config.secrets import Secret

#: Where QQ keeps the files of its messages.
_QQ_HOSTS = ("qq.com", "qq.com.cn", "qpic.cn")


class SettingsSchema(ma.Schema):
    """Settings of a OneBot 11 bot."""

    base_url = ma.fields.Url(required=True, schemes={"http", "https"}, require_tld=False)
    access_token = Secret(load_default="")
    #: Key of the signatures of events; without it no event is taken.
    secret = Secret(load_default="")
    format = ma.fields.String(
        load_default="markdown", validate=ma.validate.OneOf(("markdown", "plain"))
    )
    max_file_mb = ma.fields.Integer(load_default=30, validate=ma.validate.Range(1, 1000))
    file_hosts = ma.fields.List(ma.fields.String(), load_default=lambda: list(_QQ_HOSTS))
    timeout_s = ma.fields.Integer(load_default=60, validate=ma.validate.Range(1, 600))
