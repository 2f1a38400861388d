"""Lists of tools are read tool by tool."""

from __future__ import annotations

from typing import Any

import mcp_types
import pytest

from astrbot_api.mcp.sidecar.repairing import repair_tools

GOOD = {"name": "good", "description": "x", "inputSchema": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    "bad",
    [
        {"inputSchema": {}},
        {"inputSchema": None},
        {"inputSchema": True},
        {},
        {"inputSchema": {"type": ["object", "null"], "properties": {"a": 7}, "required": "a"}},
        {"inputSchema": {"type": "object", "$schema": 4}, "outputSchema": {"type": "array"}},
        {"inputSchema": {"type": "object"}, "annotations": "destructive", "icons": {}},
        {"inputSchema": {"type": "object"}, "description": 7, "title": []},
    ],
)
def test_an_odd_tool_is_taken_and_does_not_cost_the_others(bad: dict[str, Any]) -> None:
    repaired = repair_tools("odd", [{"name": "bad", **bad}, GOOD])
    assert [one["name"] for one in repaired] == ["bad", "good"]
    assert repaired[0]["inputSchema"]["type"] == "object"
    mcp_types.ListToolsResult.model_validate({"tools": repaired}, by_name=False)
    assert repaired[1] == GOOD


def test_a_tool_that_only_runs_as_a_task_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    optional, required = (
        {**GOOD, "name": one, "execution": {"taskSupport": one}} for one in ("optional", "required")
    )
    assert repair_tools("odd", [required, optional]) == [optional]
    assert "skipped tool 'required': it only runs as a task" in caplog.text


def test_a_tool_that_is_nested_without_end_does_not_cost_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"not": schema}
    assert repair_tools("odd", [{**GOOD, "name": "deep", "inputSchema": schema}, GOOD]) == [GOOD]
    assert "skipped tool 'deep': it is nested too deeply" in caplog.text


def test_what_has_no_name_is_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert repair_tools("odd", [7, {}, {"name": 3}, GOOD]) == [GOOD]
    assert "MCP server odd: skipped a tool without a name" in caplog.text
