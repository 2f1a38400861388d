"""The blueprint class of the API, based on flask-smorest's.

Decorators run at import time and only store metadata (scope, documented errors,
tag). The metadata takes effect when :func:`build_api` registers the blueprints on
an app. Each app has its own parent blueprint, so two apps in one process share
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar, cast

import flask_smorest
import marshmallow as ma
from flask import Request
from flask_smorest.utils import deepupdate
from webargs.flaskparser import FlaskParser

from ..errors import STATUS_OF_CODE, ApiError
from .auth import check_scope, get_caller
from .json_body import SMALL_JSON_BYTES, read_json_object
from .schemas import path_parameter

#: Error codes of every route with a JSON body.
_BODY_CODES = ("invalid_request", "malformed_json", "body_too_large", "unsupported_media_type")

F = TypeVar("F", bound=Callable[..., Any])

#: Error codes of every route that needs a key.
_KEY_CODES = (
    "missing_api_key", "invalid_api_key", "insufficient_scope", "key_restricted", "rate_limited",
    "storage_error",
)  # fmt: skip


class JsonParser(FlaskParser):
    """Parses bodies strictly and raises the first error as an :class:`ApiError`."""

    def load_json(self, req: Request, schema: ma.Schema) -> Any:
        """Return the JSON object of the body, or an empty one if there is no body."""
        return read_json_object(req, carries_message=getattr(schema, "carries_message", False))

    def handle_error(self, error: ma.ValidationError, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise the first validation message, which names its field."""
        message = first_message(error.messages)
        code = "missing_field" if message.startswith("Missing key: ") else "invalid_request"
        raise ApiError(code, message) from error


class ApiBlueprint(flask_smorest.Blueprint):
    """A group of routes with one tag in the documentation and one required scope.

    :param tag: Heading in the documentation.
    :param scope: The scope that a key needs, or None if any key is enough.
    :param public: Whether the routes need no key.
    :param checks_key: Whether a hook checks the key. If false, the views check it.
    :param error_schema: The schema of errors, or None for the envelope.
    :param path: Description and example of each parameter in the paths of the routes.
    """

    ARGUMENTS_PARSER = JsonParser()

    def __init__(
        self, name: str, import_name: str, *, tag: str, scope: str | None = None,
        public: bool = False, description: str = "", error_schema: ma.Schema | None = None,
        checks_key: bool = True, path: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name, import_name, description=description)
        self.tag = tag
        self.scope = scope
        self.public = public
        self.error_schema = error_schema
        self.checks_key = checks_key and not public
        self._path = path or {}

    def route(self, rule: str, *, operation_id: str = "", **options: Any) -> Callable[[F], F]:
        """Register a view and document it: tag, parameters of its path, errors.

        :param operation_id: Unique name of the operation in the OpenAPI document.
        """
        named = [
            path_parameter(name, *self._path[name]) for name in self._path if f"<{name}>" in rule
        ]
        register = super().route(rule, **{"parameters": named, "tags": [self.tag], **options})
        documented: dict[str, Any] = {"operationId": operation_id} if operation_id else {}
        if self.public:
            documented["security"] = []

        def decorator(view: F) -> F:
            own = ("invalid_request",) if self.public else _KEY_CODES
            codes = (*own, *getattr(view, "_apidoc", {}).get(_CODES_KEY, ()))
            documented["responses"] = _describe_errors(codes, self.error_schema)
            return cast("F", register(self.doc(**documented)(view)))

        return decorator

    def arguments(self, schema: ma.Schema, **kwargs: Any) -> Callable[[F], F]:
        """Inject validated arguments. Invalid ones cause an error that names the field."""
        kwargs.setdefault("error_status_code", 400)
        is_json = kwargs.get("location", "json") == "json"
        if is_json and not getattr(schema, "carries_message", False):
            kwargs.setdefault("description", f"At most {SMALL_JSON_BYTES} bytes of JSON.")
        codes = _BODY_CODES if is_json else ("invalid_request",)
        if any(field.required for field in schema.fields.values()):
            codes = ("missing_field", *codes)
        inject: Callable[[F], F] = super().arguments(schema, **kwargs)
        return lambda view: inject(_add_codes(view, codes))

    @staticmethod
    def needs_scope(scope: str) -> Callable[[F], F]:
        """Check the scope of one route before its body is read."""

        def decorator(func: F) -> F:
            @wraps(func)
            def checked(*args: Any, **kwargs: Any) -> Any:
                check_scope(get_caller().scopes, scope)
                return func(*args, **kwargs)

            return cast("F", checked)

        return decorator

    @staticmethod
    def doc(**kwargs: Any) -> Callable[[F], F]:
        """Store OpenAPI fields on a view.

        flask-smorest's version wraps the view again for each use, which slows down
        every request. This one stores the same metadata on the view itself.
        """

        def decorator(func: F) -> F:
            noted = dict(getattr(func, "_apidoc", {}))
            noted["manual_doc"] = deepupdate(noted.get("manual_doc", {}), kwargs)
            func._apidoc = noted  # type: ignore[attr-defined]
            return func

        return decorator

    def answers(self, schema: ma.Schema, status: int = 200) -> Callable[[F], F]:
        """Document the response of a route.

        The view builds the envelope itself: for a list, dumping through the schema
        takes longer than the rest of the request.
        """
        content = {"application/json": {"schema": schema}}
        described = {"description": HTTPStatus(status).phrase, "content": content}
        decorator: Callable[[F], F] = self.doc(responses={status: described})
        return decorator

    @staticmethod
    def raises(*codes: str) -> Callable[[F], F]:
        """Document the errors of a route by their codes in the error table.

        The errors of keys and of :meth:`arguments` are added to them.
        """
        return lambda view: _add_codes(view, codes)


#: Key of the error codes in the documentation of a view.
_CODES_KEY = "error_codes"


def _add_codes(view: F, codes: tuple[str, ...]) -> F:
    """Store error codes on a view, for :meth:`ApiBlueprint.route`."""
    apidoc = dict(getattr(view, "_apidoc", {}))
    apidoc[_CODES_KEY] = (*apidoc.get(_CODES_KEY, ()), *codes)
    view._apidoc = apidoc  # type: ignore[attr-defined]
    return view


def _describe_errors(codes: tuple[str, ...], schema: ma.Schema | None) -> dict[int, Any]:
    """Return one OpenAPI response for each status, listing its error codes."""
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


def first_message(messages: Any) -> str:
    """Return the first text of nested marshmallow messages, with the name of its field."""
    field = ""
    while not isinstance(messages, str):
        if isinstance(messages, dict):
            key, messages = next(iter(messages.items()))
            if isinstance(key, str):  # the index of an element is no name
                field = "" if key == "_schema" else key
        else:
            messages = messages[0]
    return messages if field in messages else f"{field}: {messages}"
