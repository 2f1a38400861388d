"""Arguments are validated against foreign schemas within limits."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from astrbot_api.agent import arguments
from astrbot_api.agent.arguments import TOO_LARGE, find_fault, find_schema_fault, make_validator


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize("key", ["$ref", "$dynamicRef"])
@pytest.mark.parametrize("base", ["$id", "allOf"])
def test_a_schema_fetches_nothing(key: str, base: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/schema"
        inner = {"$id": url, key: "#q"} if base == "$id" else {"allOf": [{key: url}]}
        fault = find_fault(make_validator(_object(a={"properties": {"b": inner}})), {"a": {"b": 1}})
        assert fault == "the tool's schema refers to what is not in it"
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.timeout(20)
def test_a_pattern_that_never_ends_is_left_to_the_tool() -> None:
    validator = make_validator(_object(a={"type": "string", "pattern": "^(a|a)+$"}))
    assert find_fault(validator, {"a": "a" * 60 + "b"}) == ""


@pytest.mark.timeout(20)
def test_a_pattern_of_names_that_never_ends_is_not_looked_at() -> None:
    schema = {"type": "object", "patternProperties": {"^(a|a)+$": {}}}
    schema |= {"additionalProperties": False}
    assert find_fault(make_validator(schema), {"a" * 60 + "b": 1}) == ""


def test_a_pattern_still_finds_a_fault() -> None:
    validator = make_validator(_object(a={"type": "string", "pattern": "^[0-9]+$"}))
    assert "does not match" in find_fault(validator, {"a": "x"})
    assert find_fault(validator, {"a": "12"}) == ""


@pytest.mark.timeout(20)
def test_references_that_double_the_work_end() -> None:
    levels = {
        f"l{level}": {"allOf": [{"$ref": f"#/$defs/l{level + 1}"}] * 2} for level in range(40)
    }
    schema = {"$defs": {**levels, "l40": {}}, "$ref": "#/$defs/l0"}
    assert find_fault(make_validator(schema), {}) == "the tool's schema is too large to check them"


def test_a_reference_to_itself_ends() -> None:
    schema = {"$ref": "#"}
    assert find_fault(make_validator(schema), {}) == "the tool's schema is too large to check them"


@pytest.mark.timeout(20)
def test_messages_that_repeat_a_long_value_end() -> None:
    parts = [{"type": "object"}] * 1500
    for schema in ({"allOf": parts}, {"anyOf": parts}, {"allOf": [{"not": {}}] * 1500}):
        validator = make_validator({"properties": {"a": schema}})
        assert find_fault(validator, {"a": "x" * 200_000}) == TOO_LARGE


def test_the_fault_of_a_long_value_ends_with_the_reason() -> None:
    validator = make_validator({"properties": {"a": {"type": "integer"}}})
    fault = find_fault(validator, {"a": "x" * 9999})
    assert fault.startswith("a: 'xxx")
    assert fault.endswith("xxx' is not of type 'integer'")
    assert len(fault) < 500


def test_a_long_list_of_equal_objects_ends() -> None:
    validator = make_validator(_object(a={"type": "array", "uniqueItems": True}))
    assert find_fault(validator, {"a": [{"b": [n]} for n in range(20_000)]}) == ""


def test_the_fault_names_its_place() -> None:
    validator = make_validator(_object(a=_object(b={"type": "integer"})))
    assert find_fault(validator, {"a": {"b": "x"}}) == "a.b: 'x' is not of type 'integer'"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("draft", ["2020-12/schema", "2019-09/schema"])
def test_no_part_of_a_schema_leaves_the_limits_by_naming_a_draft(draft: str) -> None:
    part = {"$schema": f"https://json-schema.org/draft/{draft}", "pattern": "^(a|a)+$"}
    assert find_fault(make_validator(_object(a=part)), {"a": "a" * 60 + "b"}) == ""
    levels: dict[str, Any] = {
        f"l{level}": {**part, "pattern": "", "allOf": [{"$ref": f"#/$defs/l{level + 1}"}] * 2}
        for level in range(40)
    }
    schema = {"$defs": {**levels, "l40": {}}, "$ref": "#/$defs/l0"}
    assert find_fault(make_validator(schema), {}) == "the tool's schema is too large to check them"


def test_others_run_while_a_large_schema_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[None] = []
    monkeypatch.setattr(arguments, "let_others_run", lambda: pauses.append(None))
    many = {f"p{number}": {"type": "string"} for number in range(300)}
    assert find_schema_fault(_object(**many)) == ""
    # About seven keywords per property, and a pause after every 200.
    assert 8 <= len(pauses) <= 20


@pytest.mark.parametrize(
    "schema",
    [
        7, {"type": 9}, {"items": 7}, {"allOf": []}, {"required": "a"}, {"$ref": 7}, {"format": 7},
        {"properties": {"a": {"minimum": "x"}}}, {"$defs": {"a": {"enum": 3}}},
        {"not": {"anyOf": [{"type": "objet"}]}}, {"unevaluatedItems": 7},
        {"dependencies": {"a": 7}}, {"contentSchema": {"type": 7}},
    ],
)  # fmt: skip
def test_invalid_schemas_are_detected(schema: Any) -> None:
    assert find_schema_fault(schema)
    assert find_schema_fault({"$defs": {"a": schema}})
    assert find_schema_fault(_object(a=True, b={"type": ["string", "null"]})) == ""
