"""Every request field with many values checks their number first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import marshmallow as ma
import pytest

from astrbot_api.errors import ApiError
from astrbot_api.http.api import RESOURCES
from astrbot_api.http.fields import AnyObject, BoundedList
from astrbot_api.http.openai.parameters import PASSED, read_passed


def _schemas() -> Iterator[ma.Schema]:
    for blueprint in RESOURCES:
        for methods in blueprint._docs.values():
            for doc in methods.values():
                if isinstance(doc, dict) and doc.get("arguments"):
                    found = doc["arguments"]["parameters"]
                    yield from (one["schema"] for one in found)


SCHEMAS = {type(schema).__name__: schema for schema in _schemas()}


def test_the_schemas_are_found() -> None:
    assert {"ChatRequestSchema", "SessionKeyRequestSchema", "BatchDeleteSchema"} <= set(SCHEMAS)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_request_has_no_list_or_object_without_a_bound(name: str) -> None:
    for field_name, field in SCHEMAS[name].fields.items():
        if isinstance(field, ma.fields.List):
            assert isinstance(field, BoundedList), f"{name}.{field_name}: use BoundedList"
        assert not isinstance(field, (ma.fields.Mapping, ma.fields.Nested, ma.fields.Tuple)), (
            f"{name}.{field_name}: use {AnyObject.__name__}"
        )


class WatchedList(list[Any]):
    """A list that counts the items that were looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[Any]:
        for item in super().__iter__():
            self.looked_at += 1
            yield item

    def __getitem__(self, at: Any) -> Any:
        self.looked_at += 1
        return super().__getitem__(at)


@pytest.mark.parametrize("name", PASSED)
def test_no_parameter_of_the_model_looks_at_thousands_of_values(name: str) -> None:
    value = WatchedList([{}] * 49_000)
    with pytest.raises(ApiError, match=f"{name} must be"):
        read_passed({name: value}, PASSED)
    assert value.looked_at < 100
