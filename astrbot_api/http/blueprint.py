"""The blueprint class of every resource, and what it adds to flask-smorest's.

Decorators run at import time and only note things down (scope, documented
errors, tag). What they noted takes effect when :func:`build_api` registers
the blueprints on an app: each app has a parent blueprint of its own, so two
apps in one process share nothing.
"""

from __future__ import annotations

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar, cast

import flask_smorest
import marshmallow as ma
import orjson
from flask import Request
from flask_smorest.utils import deepupdate
from webargs.flaskparser import FlaskParser

from ..errors import STATUS_OF_CODE, ApiError, refuse
from ..runtime.bounded_json import JsonDepthError, JsonLimitError, load_json
from .auth import check_scope, get_caller
from .request_body import MESSAGE_REMEDY, read_body
from .state import get_state

#: Largest body of a route that carries no message.
SMALL_JSON_BYTES = 256 * 1024

#: Names of UTF-8, and of its part that is ASCII.
_UTF8_NAMES = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})

F = TypeVar("F", bound=Callable[..., Any])

#: Codes that every route with a key can answer.
_KEY_CODES = (
    "missing_api_key", "invalid_api_key", "insufficient_scope", "key_restricted", "rate_limited",
    "storage_error",
)  # fmt: skip


class JsonParser(FlaskParser):
    """Reads a body strictly and reports the first fault as an :class:`ApiError`."""

    def load_json(self, req: Request, schema: ma.Schema) -> Any:
        """Return the JSON object of the body; no body at all is an empty one."""
        return read_json_object(req, carries_message=getattr(schema, "carries_message", False))

    def handle_error(self, error: ma.ValidationError, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise the first message of a schema, which names its field."""
        message = _first_message(error.messages)
        code = "missing_field" if message.startswith("Missing key: ") else "invalid_request"
        raise ApiError(code, message) from error


def read_json_object(
    req: Request,
    *,
    carries_message: bool = False,
    max_bytes: int = SMALL_JSON_BYTES,
    keep: bool = False,
) -> dict[str, Any]:
    """Read the body as one JSON object; no body at all is an empty one.

    :param carries_message: Whether it may be as long as a message may be.
    :param max_bytes: Its limit otherwise.
    :param keep: Whether a view reads it again.
    :raises ApiError: as :func:`read_json`, or ``invalid_request``.
    """
    limit = get_state().settings.max_json_bytes
    if carries_message:
        value = read_json(req, limit, keep=keep, remedy=MESSAGE_REMEDY)
    else:
        value = read_json(req, min(max_bytes, limit), keep=keep)
    # The recorded server takes null and false for an empty object.
    if value is None or value is False:
        return {}
    if not isinstance(value, dict):
        raise refuse("the request body must be a JSON object")
    return value


def read_json(req: Request, max_bytes: int, *, keep: bool = False, remedy: str = "") -> Any:
    """Read the body as JSON; None: there is none.

    :param keep: Whether a view reads it again.
    :param remedy: What a client is answered behind the limit.
    :raises ApiError: ``body_too_large``, ``unsupported_media_type``,
        ``malformed_json`` or ``invalid_request``.
    """
    body = read_body(req, max_bytes, keep=keep, remedy=remedy)
    if not body.removeprefix(BOM_UTF8).strip():
        return None
    if req.mimetype != "application/json" and not req.mimetype.endswith("+json"):
        raise ApiError("unsupported_media_type", "Content-Type must be application/json")
    check_coding(req)
    _check_charset(req, body)
    try:
        return load_json(body.removeprefix(BOM_UTF8))
    except JsonDepthError as error:
        raise ApiError("malformed_json", f"the request body is not valid JSON: {error}") from error
    except JsonLimitError as error:
        raise refuse(f"the request body is refused: {error}") from error
    except orjson.JSONDecodeError as error:
        raise ApiError("malformed_json", f"the request body is not valid JSON: {error}") from error


def check_coding(req: Request) -> None:
    """Refuse a body that is compressed.

    :raises ApiError: ``unsupported_media_type``, which names it.
    """
    coding = req.headers.get("Content-Encoding", "").strip()
    if coding and coding.lower() != "identity":
        raise ApiError(
            "unsupported_media_type",
            f"Content-Encoding {coding[:100]} is not supported; send the body uncompressed",
        )


def _check_charset(req: Request, body: bytes) -> None:
    """Refuse JSON that is not UTF-8, by what its header says or its first bytes show.

    :raises ApiError: ``unsupported_media_type``, which names the charset.
    """
    if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise ApiError("unsupported_media_type", "the body is UTF-16 or UTF-32; send UTF-8")
    charset = req.mimetype_params.get("charset", "").strip().strip("'\"")
    if charset and charset.lower() not in _UTF8_NAMES:
        raise ApiError(
            "unsupported_media_type",
            f"charset {charset[:100]} in Content-Type is not supported; send UTF-8",
        )


class ApiBlueprint(flask_smorest.Blueprint):
    """A resource: a tag in the documentation, a scope that opens it.

    :param tag: Heading in the documentation.
    :param scope: What a key must have; ``public=True``: no key is needed.
    :param checks_key: False: the views check the key themselves.
    :param error_schema: The shape of its errors; None: the envelope.
    """

    ARGUMENTS_PARSER = JsonParser()

    def __init__(
        self, name: str, import_name: str, *, tag: str, scope: str | None = None,
        public: bool = False, description: str = "", error_schema: ma.Schema | None = None,
        checks_key: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(name, import_name, description=description)
        self.tag = tag
        self.scope = scope
        self.public = public
        self.error_schema = error_schema
        self.checks_key = checks_key and not public

    def add_url_rule(self, rule: str, *args: Any, **options: Any) -> None:
        """Register a route under this blueprint's tag."""
        if options.get("tags") is None:
            options["tags"] = [self.tag]
        super().add_url_rule(rule, *args, **options)

    def arguments(self, schema: ma.Schema, **kwargs: Any) -> Callable[[F], F]:
        """Inject checked arguments; a fault is a 400 that names the field."""
        kwargs.setdefault("error_status_code", 400)
        decorator: Callable[[F], F] = super().arguments(schema, **kwargs)
        return decorator

    @staticmethod
    def needs_scope(scope: str) -> Callable[[F], F]:
        """Check a scope that is not the whole blueprint's, before the body is read."""

        def decorator(func: F) -> F:
            @wraps(func)
            def checked(*args: Any, **kwargs: Any) -> Any:
                check_scope(get_caller().scopes, scope)
                return func(*args, **kwargs)

            return cast("F", checked)

        return decorator

    @staticmethod
    def doc(**kwargs: Any) -> Callable[[F], F]:
        """Note OpenAPI fields of a route.

        flask-smorest's own wraps the view once more for each use, which every
        request pays for; this one writes the same note on the view itself.
        """

        def decorator(func: F) -> F:
            noted = deepcopy(getattr(func, "_apidoc", {}))
            noted["manual_doc"] = deepupdate(noted.get("manual_doc", {}), kwargs)
            func._apidoc = noted  # type: ignore[attr-defined]
            return func

        return decorator

    def answers(self, schema: ma.Schema, status: int = 200) -> Callable[[F], F]:
        """Document what a route answers.

        The view builds the envelope itself: dumping through the schema costs
        more than the whole request on a list.
        """
        content = {"application/json": {"schema": schema}}
        described = {"description": HTTPStatus(status).phrase, "content": content}
        decorator: Callable[[F], F] = self.doc(responses={status: described})
        return decorator

    def raises(self, *codes: str) -> Callable[[F], F]:
        """Document the errors of a route, by the codes of the table."""
        own = ("invalid_request",) if self.public else _KEY_CODES
        described = describe_errors((*own, *codes), self.error_schema)
        decorator: Callable[[F], F] = self.doc(responses=described)
        return decorator


def describe_errors(codes: tuple[str, ...], schema: ma.Schema | None = None) -> dict[int, Any]:
    """Return OpenAPI responses, one a status, that list their codes."""
    shape: Any = schema or {"$ref": "#/components/schemas/Error"}
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*codes, "internal_error")):
        by_status.setdefault(STATUS_OF_CODE[code], []).append(code)
    return {
        status: {
            "description": f"{HTTPStatus(status).phrase}: `{'`, `'.join(found)}`",
            "content": {"application/json": {"schema": shape}},
        }
        for status, found in sorted(by_status.items())
    }


def _first_message(messages: Any) -> str:
    """Return the first text of marshmallow's nested messages."""
    while not isinstance(messages, str):
        messages = next(iter(messages.values() if isinstance(messages, dict) else messages))
    return messages
