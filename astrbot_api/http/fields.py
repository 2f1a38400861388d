"""Schema fields with the error messages and the leniency that the contract requires."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import marshmallow as ma

from ..config.settings import Settings
from ..errors import ApiError
from ..messages import check_text, to_whole
from .state import get_state
from .usernames import get_bound_username

F = TypeVar("F", bound="ma.fields.Field[Any]")

#: JSON Schema pattern: at least one character that is not a blank.
NOT_BLANK = r"\S"


class Text(ma.fields.String):
    """A stripped string. Integers are accepted and converted; ``null`` is empty.

    :param max_chars: Name of the setting that limits the length.
    """

    def __init__(self, *, max_chars: str = "", **kwargs: Any) -> None:
        # For the OpenAPI document; apispec adds null where it is allowed.
        metadata = {"type": ["string", "integer"], **kwargs.pop("metadata", {})}
        super().__init__(metadata=metadata, **kwargs)
        self.max_chars = max_chars

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = attr or self.name or "value"
        value = to_whole(value)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise ma.ValidationError(f"{name} must be a string")
        try:
            check_text(name, value)
        except ApiError as error:
            raise ma.ValidationError(error.message) from error
        text = value.strip()
        if self.max_chars:
            self._check_length(name, text)
        return text

    def _check_length(self, name: str, text: str) -> None:
        limit: int = getattr(get_state().settings, self.max_chars)
        if len(text) > limit:
            raise ma.ValidationError(
                f"{name} has {len(text)} characters; at most {limit} are allowed"
            )


def describe_max_chars(field: Any, settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI member with the maximum length of a :class:`Text`."""
    name = getattr(field, "max_chars", "")
    return {"maxLength": getattr(settings, name)} if name else {}


class BoundedList(ma.fields.List):  # type: ignore[type-arg]  # marshmallow 3 has no List[…]
    """A list whose length is checked first. Loading stops at the first invalid element."""

    def __init__(self, inner: Any, *, max_items: int, **kwargs: Any) -> None:
        metadata = {"maxItems": max_items, **kwargs.pop("metadata", {})}
        super().__init__(inner, metadata=metadata, **kwargs)
        self.max_items = max_items

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        if len(value) > self.max_items:
            name = attr or self.name or "value"
            raise ma.ValidationError(
                f"{name} has {len(value)} elements; at most {self.max_items} are allowed"
            )
        return [self.inner.deserialize(one, attr, data) for one in value]


class AnyObject(ma.fields.Raw):
    """A JSON object whose members are not validated."""

    def __init__(self, *, metadata: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(metadata={"type": "object", **metadata}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ma.ValidationError(f"{attr or self.name} must be an object")
        return value


def request_field(kind: Callable[..., F], description: str, example: Any, **options: Any) -> F:
    """Return a request field with its description and example for the OpenAPI document."""
    return kind(metadata={"description": description, "example": example}, **options)


def optional_text(description: str, example: str, **options: Any) -> Text:
    """Return a :class:`Text` that may be absent, ``null`` or blank. It is then empty."""
    return request_field(Text, description, example, load_default="", allow_none=True, **options)


def required_text(description: str, example: str, **options: Any) -> Text:
    """Return a required :class:`Text`."""
    metadata = {"description": description, "example": example, "pattern": NOT_BLANK}
    return Text(required=True, metadata=metadata, **options)


def any_value(description: str, example: Any, **schema: Any) -> ma.fields.Raw:
    """Return an optional field whose value the view validates.

    :param schema: JSON Schema members of the value, for the OpenAPI document.
    """
    metadata = {"description": description, "example": example, **schema}
    return ma.fields.Raw(load_default=None, allow_none=True, metadata=metadata)


def required_value(description: str, example: Any, **schema: Any) -> ma.fields.Raw:
    """Return a required field whose value the view validates; see :func:`any_value`."""
    metadata = {"description": description, "example": example, **schema}
    return ma.fields.Raw(required=True, metadata=metadata)


def optional_object(description: str, example: Any) -> AnyObject:
    """Return an optional :class:`AnyObject`."""
    return request_field(AnyObject, description, example, load_default=None, allow_none=True)


def query_flag(
    description: str, *, default: bool = False, example: bool = False
) -> ma.fields.Boolean:
    """Return a boolean query parameter. Words such as ``yes`` are accepted too."""
    return request_field(ma.fields.Boolean, description, example, load_default=default)


def optional_flag(description: str, *, default: bool, example: bool, **options: Any) -> Flag:
    """Return a :class:`Flag` with a documented default."""
    metadata = {"description": description, "default": default, "example": example}
    return Flag(metadata=metadata, **options)


def query_choice(
    name: str, values: Sequence[str], description: str, *, default: str, example: str = ""
) -> ma.fields.String:
    """Return a query parameter that accepts one of several strings."""
    return request_field(
        ma.fields.String,
        description,
        example or default,
        load_default=default,
        validate=ma.validate.OneOf(values, error=f"{name} must be {' or '.join(values)}"),
    )


class Username(Text):
    """A non-blank username. Required unless the key is bound to one."""

    def __init__(self, **kwargs: Any) -> None:
        missing = "Missing key: username"
        super().__init__(
            required=True,
            max_chars="max_username_chars",
            error_messages={"required": missing, "null": missing},
            metadata={
                "description": (
                    "The owner of the session. An integer is converted to its digits. Optional "
                    "if the key is bound to one username."
                ),
                "example": "alice",
                "pattern": NOT_BLANK,
            },
            **kwargs,
        )

    def deserialize(
        self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any
    ) -> Any:
        if value is None or value is ma.missing:
            value = get_bound_username() or value
        return super().deserialize(value, attr, data, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not text:
            raise ma.ValidationError("username is empty")
        return text


def optional_username() -> Text:
    """Return a username that may stand in the query or in the body."""
    return optional_text(
        "The owner of the session, in the query or in the body.", "alice",
        max_chars="max_username_chars",
    )  # fmt: skip


class Flag(ma.fields.Boolean):
    """``true`` or ``false``. ``null`` means the default."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_none=True, load_default=None, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ma.ValidationError(f"{attr or self.name} must be true or false")
        return value


class WholeNumber(ma.fields.Integer):
    """An integer, or a float without a fraction such as ``20.0``. Strings are rejected."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strict=True, **kwargs)

    def _validated(self, value: Any) -> int:
        whole = isinstance(value, float) and value.is_integer()
        return super()._validated(int(value) if whole else value)


class Limit(ma.fields.Integer):
    """The page size for paging by cursor, clamped to 1 and the maximum."""

    def __init__(self, maximum: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.maximum = maximum

    def _validated(self, value: Any) -> int:
        return min(max(1, super()._validated(value)), self.maximum)


#: Description of a parameter ``after`` of a stream. A browser's ``EventSource`` repeats the
#: parameters of its URL when it connects again, and adds the header.
AFTER = (
    "The number of the last event that you received (its `id:` line). The header "
    "`Last-Event-ID` means the same. If both are sent, the larger number is used."
)


class Cursor(ma.fields.Integer):
    """The ``next_cursor`` of the previous page. Blank means the first page."""

    def __init__(
        self,
        description: str = "The `next_cursor` of the previous page. Omit it for the first page.",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            load_default=None,
            metadata={
                "description": description,
                "minimum": 0,
                "maximum": 2**63 - 1,
                "example": 42,
            },
            **kwargs,
        )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if value == "":
            return None
        number = super()._deserialize(value, attr, data, **kwargs)
        if not 0 <= number < 2**63:
            raise ma.ValidationError(f"{attr} is out of range")
        return number


class PageNumber(Limit):
    """A page number or page size, clamped. Accepts every form that ``int()`` does, such as ``+2``.

    :param maximum: By default, the largest integer that every JSON parser supports.
    """

    default_error_messages = {"invalid": "page and page_size must be integers"}

    def __init__(self, maximum: int = 2**31 - 1, **kwargs: Any) -> None:
        super().__init__(maximum, **kwargs)
