"""Tables of TOML files: reading, and dataclasses whose fields say how their keys are validated."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import marshmallow as ma

from ..errors import SettingsError
from ..runtime.addresses import PROXY_SCHEMES

_FIELDS: Mapping[Any, type[ma.fields.Field[Any]]] = {
    str: ma.fields.String,
    int: ma.fields.Integer,
    float: ma.fields.Float,
    bool: ma.fields.Boolean,
}

#: Default of a key that a table must have.
REQUIRED: Any = dataclasses.MISSING


def key(
    default: Any,
    *checks: Any,
    field: ma.fields.Field[Any] | None = None,
    each: ma.fields.Field[Any] | None = None,
    secret: bool = False,
) -> Any:
    """Return a field of a table's dataclass.

    :param default: Value of a missing key, or :data:`REQUIRED`.
    :param checks: Marshmallow's validators of the value.
    :param field: Marshmallow's field, by default the one for the annotation.
    :param each: Marshmallow's field of the elements, for ``tuple[str, ...]``.
    :param secret: Whether ``repr`` leaves the value out.
    """
    metadata = {"checks": checks, "field": field, "each": each or ma.fields.String()}
    if default == {}:
        return dataclasses.field(
            default_factory=dict, hash=False, repr=not secret, metadata=metadata
        )
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


class KnownKeys(ma.Schema):
    """Base of the schemas of tables: an error about an unknown key names the known ones."""

    class Meta:
        unknown = ma.RAISE

    error_messages = {"type": "Must be a table, as in [table]."}

    @ma.pre_load
    def _check_names(self, data: Any, **options: Any) -> Any:
        for name in data if isinstance(data, Mapping) else ():
            if name not in self.fields:
                raise ma.ValidationError({name: [describe_unknown(name, self.fields)]})
        return data


def describe_unknown(name: str, known: Iterable[str]) -> str:
    """Return the error for an unknown key, with a similar key or all known ones."""
    known = sorted(known)
    if similar := difflib.get_close_matches(name, known, n=1):
        return f"Unknown key. Did you mean {similar[0]}?"
    return f"Unknown key. Known keys: {', '.join(known)}."


class TableSchema(KnownKeys):
    """Base of the schemas of :func:`make_schema`."""

    kind: ClassVar[type]

    @ma.post_load
    def _make(self, data: dict[str, Any], **options: Any) -> Any:
        return self.kind(**data)


def make_schema(kind: type, *, base: type[ma.Schema] = TableSchema, without: str = "") -> Any:
    """Return a schema that loads a table into a dataclass.

    :param kind: The dataclass. Fields without :func:`key` have no further validators.
    :param base: Subclass of :class:`TableSchema` with validators of several keys.
    :param without: Name of a field that is not a key of the table, if any.
    """
    hints = typing.get_type_hints(kind)
    schema = base.from_dict(
        {
            one.name: _make_field(hints[one.name], one)
            for one in dataclasses.fields(kind)
            if one.name != without
        },
        name=kind.__name__,
    )
    schema.kind = kind  # type: ignore[attr-defined]
    return schema


def _make_field(hint: Any, of: dataclasses.Field[Any]) -> ma.fields.Field[Any]:
    """Return marshmallow's field for a dataclass's field."""
    metadata = of.metadata or key(REQUIRED).metadata
    required = of.default is REQUIRED and of.default_factory is REQUIRED
    if metadata["field"] is not None:
        made: ma.fields.Field[Any] = metadata["field"]
        made.required = required
        return made
    options: dict[str, Any] = {"required": required, "validate": metadata["checks"]}
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = typing.get_args(hint)[0]  # without None
    if hint in _FIELDS:
        return _FIELDS[hint](**options)
    if typing.get_origin(hint) is tuple:
        return _Tuple(metadata["each"], **options)
    value = typing.get_args(hint)[1]
    values = None if value is Any else _FIELDS[value]()
    return ma.fields.Dict(keys=ma.fields.String(), values=values, **options)


class _Tuple(ma.fields.List):  # type: ignore[type-arg]  # marshmallow 3 has no List[…]
    """A list, loaded as a tuple."""

    default_error_messages = {"invalid": 'Must be a list, as in ["…"].'}

    def _deserialize(self, *arguments: Any, **options: Any) -> Any:
        return tuple(super()._deserialize(*arguments, **options))


class HttpUrl(ma.fields.String):
    """An address with a host, which may be any name of the local network, such as ``my_model``.

    marshmallow's own field only accepts host names of the Internet, without an underscore.
    """

    def _deserialize(self, *arguments: Any, **options: Any) -> Any:
        url = str(super()._deserialize(*arguments, **options)).strip()
        if not is_http_url(url):
            raise ma.ValidationError("Not a valid URL. Write http://HOST:PORT/PATH or https://….")
        return url


def is_http_url(text: str) -> bool:
    """Return whether a text is an address that begins with http:// or https://, with a host."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 (it raises)
    except ValueError:
        return False
    is_plain = text.isprintable() and not any(map(str.isspace, text))
    return is_plain and parts.scheme in ("http", "https") and bool(parts.hostname)


class BaseUrl(HttpUrl):
    """The base URL of an HTTP API, loaded without a final slash.

    :param tails: Paths of operations that users may have pasted with it. They are removed.
    """

    def __init__(self, *tails: str, **options: Any) -> None:
        super().__init__(**options)
        self._tails = tails

    def _deserialize(self, *arguments: Any, **options: Any) -> Any:
        return remove_tails(str(super()._deserialize(*arguments, **options)), self._tails)


def remove_tails(url: str, tails: Iterable[str]) -> str:
    """Return a URL without a final slash and without these endings."""
    url = url.rstrip("/")
    for tail in tails:
        url = url.removesuffix(tail)
    return url


#: Check of the name of a variable. Its value, pasted there, must not be used or shown as a name.
check_variable = ma.validate.Regexp(
    r"([A-Za-z_][A-Za-z0-9_]*)?\Z",
    error="Must be the name of an environment variable. A key itself belongs into api_key.",
)


def resolve_key(value: str, variable: str) -> str:
    """Return a key from the file, or from the variable that the file names."""
    return (value or os.environ.get(variable, "")).strip()


def check_proxy(value: str) -> None:
    """:raises marshmallow.ValidationError: if the value is not the URL of a proxy."""
    if value and value.partition("://")[0].lower() not in PROXY_SCHEMES:
        raise ma.ValidationError("Must begin with http://, https://, socks5:// or socks5h://.")


#: What to do about a common fault of a TOML file, by a part of tomllib's message.
_REMEDIES = {
    "Invalid value": 'write texts in "straight quotes", true and false small, and close each list',
    "Cannot overwrite a value": "the table has this key twice; remove one",
    "Cannot declare": "the file has this table twice; join them",
    "Unescaped": "write a path with backslashes in 'single quotes'",
    "character '\\n'": 'close the quotes, or write the lines in """three quotes"""',
    "Invalid hex value": "write a path with backslashes in 'single quotes'",
}


def read_toml(path: Path, shown_path: str, *, optional: bool = False) -> dict[str, Any]:
    """Parse a TOML file. A byte order mark is skipped, since editors on Windows write it.

    :param optional: Whether a missing file is the same as an empty one.
    :raises SettingsError: with file and error, in one line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{shown_path}: not UTF-8 (line {line}); save the file as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        remedies = [one for fault, one in _REMEDIES.items() if fault in str(error)]
        raise SettingsError("; ".join((f"{shown_path}: {error}", *remedies))) from error
    except OSError as error:
        if optional and isinstance(error, FileNotFoundError):
            return {}
        raise SettingsError(f"{shown_path}: {error}") from error


def read_tables(path: Path, name: str) -> list[dict[str, Any]]:
    """Return the tables ``[[name]]`` of a file that has no other keys. A missing file has none.

    :raises SettingsError: with file and error, in one line.
    """
    data = read_toml(path, path.name, optional=True)
    tables = data.get(name, [])
    is_list = isinstance(tables, list) and all(isinstance(one, dict) for one in tables)
    if data.keys() - {name} or not is_list:
        raise SettingsError(f"{path.name}: write [[{name}]], one table per {name}")
    found: list[dict[str, Any]] = tables
    return found


def find_first_error(messages: Any, path: str = "") -> tuple[str, str]:
    """Return the dotted path and the text of the first error."""
    if isinstance(messages, Mapping):
        name, inner = next(iter(messages.items()))
        name = "" if name in ("value", "_schema") else str(name)
        return find_first_error(inner, f"{path}.{name}" if path and name else path or name)
    if isinstance(messages, list) and messages:
        return path or "file", str(messages[0])
    return path or "file", str(messages)


def explain(error: ma.ValidationError, schema: ma.Schema) -> tuple[str, str]:
    """Return the dotted path and the text of the first error of any schema's table."""
    place, what = find_first_error(error.messages)
    if what == schema.error_messages["unknown"] and "." not in place:
        what = describe_unknown(place, schema.fields)
    return place, what
