"""Public names: importable, with cheap imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import astrbot_api
from astrbot_api import testing

#: Removing a name here breaks users' programs.
PUBLIC = [
    "Agent",
    "ApiError",
    "AppState",
    "AskModel",
    "AstrBotAPI",
    "AstrBotError",
    "Cancellation",
    "Command",
    "CommandContext",
    "Delta",
    "Handled",
    "Host",
    "HostUser",
    "ModelMessage",
    "ModelOptions",
    "Provider",
    "ProviderError",
    "ReasoningDelta",
    "RouteCaller",
    "RunCancelled",
    "Settings",
    "SettingsError",
    "Span",
    "StorageError",
    "TextDelta",
    "Tool",
    "ToolAttachment",
    "ToolCallDelta",
    "ToolContext",
    "ToolError",
    "ToolFinished",
    "ToolProgress",
    "ToolSpec",
    "ToolStarted",
    "TurnContext",
    "Usage",
    "build_operations",
    "create_app",
    "hookimpl",
    "public_route",
    "run_async",
    "tool",
    "with_app_context",
]

TESTING = [
    "FakeAstrBot",
    "FakeOneBot",
    "FakeOpenAI",
    "FakeSlack",
    "FakeTelegram",
    "FakeWebhookReceiver",
    "ScriptedApp",
    "ScriptedModel",
    "make_app",
]

DOORS = pytest.mark.parametrize(
    ("module", "names"), [(astrbot_api, PUBLIC), (testing, TESTING)], ids=["package", "testing"]
)


def list_typed(module: ModuleType) -> dict[str, str]:
    """Return the names that a module imports for type checkers, with their modules."""
    assert module.__file__
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    (block,) = [one for one in tree.body if isinstance(one, ast.If)]
    imports = [one for one in block.body if isinstance(one, ast.ImportFrom)]
    return {name.asname or name.name: str(one.module) for one in imports for name in one.names}


@DOORS
def test_the_names_are_these(module: ModuleType, names: list[str]) -> None:
    assert module.__all__ == names


@DOORS
def test_each_name_can_be_imported(module: ModuleType, names: list[str]) -> None:
    for name in names:
        assert getattr(module, name) is not None


@DOORS
def test_type_checkers_see_the_same_names_in_the_same_modules(
    module: ModuleType, names: list[str]
) -> None:
    assert list_typed(module) == module._HOMES
    assert sorted(module._HOMES) == sorted(names)


@DOORS
def test_the_typed_program_uses_each_name(module: ModuleType, names: list[str]) -> None:
    tree = ast.parse((Path(__file__).parents[1] / "typed_app.py").read_text(encoding="utf-8"))
    imports = [one for one in tree.body if isinstance(one, ast.ImportFrom)]
    assert [
        sorted(name.name for name in one.names) for one in imports if one.module == module.__name__
    ] == [sorted(names)]


@DOORS
def test_a_name_that_is_not_there_is_an_attribute_error(
    module: ModuleType, names: list[str]
) -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("module", ["astrbot_api", "astrbot_api.testing"])
def test_importing_the_package_imports_nothing_else_of_it(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "print(*sorted(name for name in sys.modules if name.startswith('astrbot_api')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["astrbot_api", module][: 1 + (module != "astrbot_api")]
