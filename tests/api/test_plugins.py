"""Features of plugins through the public API, and effects of their errors."""

from __future__ import annotations

import asyncio
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import marshmallow as ma
import pytest
from click.testing import CliRunner

from astrbot_api import (
    AstrBotAPI,
    Command,
    CommandContext,
    Handled,
    Host,
    Tool,
    ToolContext,
    TurnContext,
    create_app,
    hookimpl,
    tool,
)
from astrbot_api.agent.provider import Delta, ModelMessage, TextDelta, ToolCallDelta
from astrbot_api.cli.main import main
from astrbot_api.config.secrets import Secret
from astrbot_api.extension import AppState
from astrbot_api.plugins import registry
from astrbot_api.plugins.hookspecs import HOOKS
from astrbot_api.testing import ScriptedModel

from ..servers import FAILED, ROOT, add_config
from ..waiting import wait_for
from .conftest import Api

EXAMPLE = ROOT / "examples" / "plugin_hello" / "plugin_hello"

Make = Callable[..., tuple[Api, ScriptedModel]]


def say(messages: list[ModelMessage]) -> Iterator[Delta]:
    yield TextDelta(f"you said {messages[-1]['content']}")


def text_of(events: list[dict[str, Any]]) -> str:
    return next(event["data"] for event in events if event["type"] == "complete")


class Recorder:
    """Records its calls."""

    name = "recorder"

    def __init__(self) -> None:
        self.calls: list[Any] = []
        made.append(self)

    @hookimpl
    def startup(self, host: Host) -> None:
        self.calls.append(("startup", host.plugin))

    @hookimpl
    def shutdown(self) -> None:
        self.calls.append("shutdown")

    @hookimpl
    def register_tools(self) -> list[Tool]:
        return [tool(self.whoami)]

    @hookimpl
    def register_commands(self) -> list[Command]:
        return [Command("shout", "shout it", lambda context: context.arguments.upper())]

    @hookimpl
    def on_message(self, message: str, context: TurnContext) -> str | Handled | None:
        if message == "answer me":
            return Handled(f"here you are, {context.username}")
        return message.replace("cat", "dog")

    @hookimpl
    def before_model(self, messages: list[ModelMessage]) -> list[ModelMessage]:
        return [*messages[:-1], {**messages[-1], "content": f"{messages[-1]['content']}!"}]

    @hookimpl
    def after_model(self, context: TurnContext, reply: str) -> None:
        self.calls.append(("after_model", context.session_id, reply))

    @hookimpl
    def on_event(self, event: dict[str, Any]) -> None:
        self.calls.append(event["type"])

    def whoami(self, context: ToolContext) -> str:
        """Return who asks."""
        return f"{context.username} in {context.session_id}, config {context.config_id}"


#: The plugins of all applications. A test clears the list first.
made: list[Any] = []


@pytest.fixture(autouse=True)
def _forget_made() -> None:
    made.clear()


def test_the_hooks_of_a_turn_are_called_in_their_order(make_scripted: Make) -> None:
    api, model = make_scripted(say, plugins=[Recorder])
    assert text_of(api.chat("a cat", session_id="s")) == "you said a dog!"
    assert model.seen[-1][-1]["content"] == "a dog!"
    recorder = made[0]
    wait_for(lambda: ("after_model", "s", "you said a dog!") in recorder.calls)
    assert recorder.calls == [
        ("startup", "recorder"),
        "plain", "agent_stats", "complete", "message_saved", "end",
        ("after_model", "s", "you said a dog!"),
    ]  # fmt: skip
    api.state.close()
    assert recorder.calls[-1] == "shutdown"


def test_the_users_original_message_is_stored(make_scripted: Make) -> None:
    api, model = make_scripted(say, plugins=[Recorder])
    api.chat("a cat", session_id="s")
    api.chat("again", session_id="s")
    assert [one["content"] for one in model.seen[-1][1:]] == [
        "a cat", "you said a dog!", "again!",
    ]  # fmt: skip


def test_a_hook_can_answer_without_the_model(make_scripted: Make) -> None:
    api, model = make_scripted(say, plugins=[Recorder])
    events = api.chat("answer me", session_id="s")
    assert [event["type"] for event in events[-3:]] == ["plain", "message_saved", "end"]
    assert events[-3]["data"] == "here you are, alice"
    assert model.seen == []
    assert api.count_rows("message") == 2
    api.chat("next", session_id="s")
    assert len(model.seen[-1]) == 2, "the model is not shown what it did not say"


def test_a_plugin_adds_tools_and_commands(make_scripted: Make) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            yield TextDelta(messages[-1]["content"].rstrip("!"))
        else:
            yield ToolCallDelta(0, "c", "whoami", "{}")

    api, _ = make_scripted(answer, plugins=[Recorder])
    assert text_of(api.chat("who", session_id="s")) == "alice in s, config default"
    assert api.chat("/shout hello")[-3]["data"] == "HELLO"
    assert "\n/shout - shout it" in api.chat("/help")[-3]["data"]


def test_on_message_is_not_called_for_commands(make_scripted: Make) -> None:
    class Greedy:
        @hookimpl
        def on_message(self, message: str) -> Handled:
            return Handled("mine")

    api, _ = make_scripted(say, plugins=[Greedy])
    assert api.chat("anything")[-3]["data"] == "mine"
    assert api.chat("/reset")[-3]["data"] == "The earlier conversation is forgotten."


class Broken:
    """Raises in every hook after it is loaded."""

    name = "broken"

    @hookimpl
    def register_tools(self) -> list[Tool]:
        return [Tool("broken_tool", "Raise.", self._fail)]

    @hookimpl
    def register_commands(self) -> list[Command]:
        return [Command("broken", "raise", self._fail)]

    @hookimpl
    def startup(self) -> None:
        """Succeed, because a plugin that fails here is disabled."""

    @hookimpl
    def shutdown(self) -> None:
        raise RuntimeError("shutdown hunter2")

    @hookimpl(tryfirst=True)
    def on_message(self) -> None:
        raise RuntimeError("on_message hunter2")

    @hookimpl(tryfirst=True)
    def before_model(self, messages: list[ModelMessage]) -> None:
        messages.clear()
        raise RuntimeError("before_model hunter2")

    @hookimpl(tryfirst=True)
    def after_model(self) -> None:
        raise RuntimeError("after_model hunter2")

    @hookimpl(tryfirst=True)
    def on_event(self, event: dict[str, Any]) -> None:
        event.clear()
        raise RuntimeError("on_event hunter2")

    def _fail(self, *arguments: Any) -> str:
        raise RuntimeError("call hunter2")


def test_a_plugin_that_raises_in_every_hook_does_not_affect_others(
    make_scripted: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            yield TextDelta(messages[-1]["content"])
        else:
            yield ToolCallDelta(0, "c", "broken_tool", "{}")

    api, _ = make_scripted(answer, plugins=[Broken, Recorder])
    for _ in range(2):
        events = api.chat("a cat", session_id="s")
        assert text_of(events) == "error: the tool broken_tool failed: RuntimeError!"
        assert [event["type"] for event in events[-3:]] == ["complete", "message_saved", "end"]
        assert "hunter2" not in str(events)
    wait_for(lambda: made[0].calls.count("end") == 2)
    wait_for(lambda: caplog.text.count("plugin broken failed in after_model") == 2)
    api.state.close()
    for hook in ("on_message", "before_model", "after_model", "on_event", "shutdown"):
        assert f"plugin broken failed in {hook}" in caplog.text
    # The error is not logged for each token.
    assert caplog.text.count("RuntimeError: on_event hunter2") == 2


def test_a_command_that_raises_gives_an_error_and_the_session_continues(
    make_scripted: Make,
) -> None:
    api, _ = make_scripted(say, plugins=[Broken])
    events = api.chat("/broken", session_id="s")
    assert [event["type"] for event in events[-4:]] == FAILED
    assert events[-4]["code"] == "internal_error"
    words = "The command /broken failed; the server's log has the details."
    assert events[-4]["data"] == events[-3]["data"] == words
    assert text_of(api.chat("next", session_id="s")) == "you said next"


def test_a_command_that_returns_no_text_is_named_in_the_log(
    make_scripted: Make, caplog: pytest.LogCaptureFixture
) -> None:
    api, _ = make_scripted(say, commands=[Command("quiet", "be quiet", lambda context: None)])  # type: ignore[arg-type,return-value]
    events = api.chat("/quiet")
    assert events[-4]["data"] == "The command /quiet failed; the server's log has the details."
    assert "it must return a text or AskModel(text), not a NoneType" in caplog.text


def test_a_line_break_ends_the_name_of_a_command(make_scripted: Make) -> None:
    command = Command("shout", "shout it", lambda context: context.arguments.upper())
    api, _ = make_scripted(say, commands=[command])
    events = api.chat("/shout\nhello\nyou")
    assert [one["data"] for one in events if one["type"] == "plain"] == ["HELLO\nYOU"]


def test_plugins_of_an_application_need_different_names(
    make_scripted: Make, caplog: pytest.LogCaptureFixture
) -> None:
    class Plugin:
        @hookimpl
        def register_commands(self) -> list[Command]:
            return [Command("one", "count", lambda context: "1")]

    class Other(Plugin):
        name = "plugin"

    make_scripted(say, plugins=[Plugin, Other])
    assert "already" in caplog.text
    assert "; set another `name` in one of the classes" in caplog.text


def test_an_object_is_no_class_of_a_plugin(make_scripted: Make) -> None:
    with pytest.raises(TypeError, match="plugins= must contain classes; 'hello' is none"):
        make_scripted(say, plugins=["hello"])


@pytest.mark.parametrize("exit", [SystemExit(2), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize("where", ["command", "tool", "on_message", "on_event"])
def test_a_plugin_that_exits_ends_neither_turn_nor_session(
    make_scripted: Make, where: str, exit: BaseException
) -> None:
    class Parser:
        """Raises as ``argparse`` and cancelled tasks of ``asyncio`` do."""

        @hookimpl
        def register_tools(self) -> list[Tool]:
            return [Tool("parse", "Parse.", lambda *_: self._exit("tool"))]

        @hookimpl
        def register_commands(self) -> list[Command]:
            return [Command("parse", "parse", lambda _: self._exit("command"))]

        @hookimpl
        def on_message(self) -> None:
            self._exit("on_message")

        @hookimpl
        def on_event(self) -> None:
            self._exit("on_event")

        def _exit(self, place: str) -> str:
            if place == where:
                raise exit
            return ""

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["content"] == "call":
            yield ToolCallDelta(0, "c", "parse", "{}")
        else:
            yield TextDelta("answer")

    api, _ = make_scripted(answer, plugins=[Parser])
    for message in ("call", "/parse"):
        events = api.chat(message, session_id="s")
        assert events[-1]["type"] == "end"
        failed = where == message.replace("/parse", "command")
        assert events[-4].get("code") == ("internal_error" if failed else None)
    assert text_of(api.chat("next", session_id="s")) == "answer"


def test_a_hook_or_command_that_never_returns_times_out(
    make_scripted: Make, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()

    class Stuck:
        name = "stuck"

        @hookimpl
        def on_message(self) -> None:
            release.wait(60)

        @hookimpl
        def register_commands(self) -> list[Command]:
            return [Command("stuck", "wait", lambda context: str(release.wait(60)))]

    try:
        api, _ = make_scripted(
            say,
            plugins=[Stuck],
            agent="titles = false\ntool_timeout_s = 0.1\n[plugins]\nhook_timeout_s = 0.1",
        )
        assert text_of(api.chat("hello", session_id="s")) == "you said hello"
        assert "on_message of plugin stuck did not answer within 0.1 s" in caplog.text
        events = api.chat("/stuck", session_id="s")
        assert events[-4]["data"] == "the command /stuck did not answer within 0.1 s"
        assert text_of(api.chat("next", session_id="s")) == "you said next"
    finally:
        release.set()


def test_invalid_messages_of_hooks_are_dropped(
    make_scripted: Make, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [
        "text", {"role": "user"}, [{"content": "no role"}], ["no object"],
        [{"role": "user", "tool_calls": ["x"]}, {"role": "tool", "tool_call_id": "x"}],
    ]  # fmt: skip

    class Odd:
        @hookimpl
        def on_message(self) -> Handled:
            return Handled(None)  # type: ignore[arg-type]

        @hookimpl
        def before_model(self) -> Any:
            return answers.pop(0)

    api, model = make_scripted(say, plugins=[Odd])
    no_role = "no message with a role at 0"
    unasked = "a tool's result without its call at 1"
    for fault in ("a str, no list", "a dict, no list", no_role, no_role, unasked):
        caplog.clear()
        assert text_of(api.chat("hello")) == "you said hello"
        assert fault in caplog.text
    assert len(model.seen) == 5


class Configured:
    """Has settings, and a tool that returns them."""

    name = "configured"

    class settings_schema(ma.Schema):
        word = ma.fields.String(load_default="hello")
        times = ma.fields.Integer(load_default=1, validate=ma.validate.Range(1, 3))

    @hookimpl
    def register_commands(self) -> list[Command]:
        def run(context: CommandContext) -> str:
            return " ".join([context.settings["word"]] * context.settings["times"])

        return [Command("say", "say it", run)]


class JsonConfigured(Configured):
    name = "jsonconfigured"
    settings_schema = {  # type: ignore[assignment]
        "type": "object",
        "properties": {
            "word": {"type": "string", "default": "hello"},
            "times": {"default": 1},
            "more": {},
        },
        "additionalProperties": False,
    }


def write_config(api: Api, text: str, name: str = "default") -> None:
    path = api.state.settings.data_dir / "configs" / f"{name}.toml"
    path.write_text(f'[provider]\nid = "scripted"\ntype = "mock"\n{text}', encoding="utf-8")
    api.state.agents.configs.load_all()


@pytest.mark.parametrize("kind", [Configured, JsonConfigured])
def test_each_config_has_its_own_settings(make_scripted: Make, kind: Any) -> None:
    api, _ = make_scripted(say, plugins=[kind])
    write_config(api, f'[plugins.{kind.name}]\nword = "ho"\ntimes = 3', "santa")
    assert api.chat("/say", session_id="a")[-3]["data"] == "hello"
    assert api.chat("/say", session_id="b", config_id="santa")[-3]["data"] == "ho ho ho"


@pytest.mark.parametrize(
    ("kind", "table", "message"),
    [
        (Configured, "times = 9", "times: Must be greater than or equal to 1 and less"),
        (Configured, 'wrod = "ho"', "wrod: Unknown key. Did you mean word?"),
        (JsonConfigured, "word = 5", "word: 5 is not of type 'string'"),
        (Recorder, "word = 5", "word: this plugin has no settings"),
    ],
)
def test_an_invalid_setting_disables_the_plugin_in_that_config(
    make_scripted: Make, caplog: pytest.LogCaptureFixture, kind: Any, table: str, message: str
) -> None:
    api, _ = make_scripted(say, plugins=[kind])
    write_config(api, f"[plugins.{kind.name}]\n{table}", "wrong")
    shown = api.chat("/help", session_id="b", config_id="wrong")[-3]["data"]
    assert not {"/say", "/shout"} & set(shown.split())
    lines = [line for line in caplog.messages if "configs/wrong.toml" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"configs/wrong.toml: plugins.{kind.name}.{message}")
    assert {"/say", "/shout"} & set(api.chat("/help")[-3]["data"].split())


class MistypedSchema(Configured):
    settings_schema = {"properties": {"word": {"type": "strnig"}}}  # type: ignore[assignment]


class FailingSchema(Configured):
    class settings_schema(ma.Schema):
        @ma.pre_load
        def fail(self, data: Any, **options: Any) -> Any:
            raise KeyError("word")


def test_a_secret_of_a_plugin_may_be_in_a_variable(
    make_scripted: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WeatherSettings(ma.Schema):
        api_key = Secret(required=True)

    class Weather:
        settings_schema = WeatherSettings

        @hookimpl
        def register_commands(self) -> list[Command]:
            return [Command("key", "show it", lambda context: context.settings["api_key"])]

    monkeypatch.setenv("WEATHER_KEY", "hunter2")
    table = '[plugins.weather]\napi_key_env = "WEATHER_KEY"\n'
    api, _ = make_scripted(say, plugins=[Weather])
    write_config(api, table, "sunny")
    assert "hunter2" in str(api.chat("/key", config_id="sunny"))
    monkeypatch.delenv("WEATHER_KEY")
    write_config(api, table, "rainy")
    api.chat("/key", session_id="b", config_id="rainy")
    assert "plugins.weather: api_key_env: the variable WEATHER_KEY is not set" in caplog.text


def test_the_first_tool_and_the_first_command_of_a_name_are_used(
    make_scripted: Make, caplog: pytest.LogCaptureFixture
) -> None:
    class Second(Configured):
        name = "second"

        @hookimpl
        def register_tools(self) -> list[Tool]:
            return [Tool("calculate", "another", lambda arguments, context: "wrong")]

    api, _ = make_scripted(say, plugins=[Configured, Second])
    write_config(api, '[plugins.second]\nword = "wrong"')
    assert api.chat("/say", session_id="a")[-3]["data"] == "hello"
    assert "plugin second: the name /say is taken" in caplog.text
    assert "plugin basics: the name of its tool calculate is taken" in caplog.text


@pytest.mark.parametrize("kind", [MistypedSchema, FailingSchema])
def test_a_schema_that_fails_disables_only_its_plugin(
    make_scripted: Make, caplog: pytest.LogCaptureFixture, kind: Any
) -> None:
    agent = 'titles = false\n[plugins.configured]\nword = "ho"'
    api, _ = make_scripted("fine", plugins=[kind, Recorder], agent=agent)
    assert "/shout" in api.chat("/help")[-3]["data"].split()
    (line,) = [one for one in caplog.messages if "settings_schema failed: " in one]
    assert line.startswith("configs/default.toml: plugins.configured: ")
    assert "\n" not in line


def test_the_last_valid_settings_are_kept(make_scripted: Make) -> None:
    api, _ = make_scripted(say, plugins=[Configured])
    write_config(api, '[plugins.configured]\nword = "good"')
    assert api.chat("/say", session_id="a")[-3]["data"] == "good"
    write_config(api, '[plugins.configured]\nword = "bad"\ntimes = 99')
    assert api.chat("/say", session_id="a")[-3]["data"] == "good"


def test_a_config_selects_its_plugins(make_scripted: Make) -> None:
    api, _ = make_scripted(say, plugins=[Configured, Recorder])
    for name, lines, on in (
        ("none", "enabled = []", set()),
        ("one", 'enabled = ["conf*"]', {"/say"}),
        ("not", 'disabled = ["configured"]', {"/shout"}),
        ("both", "", {"/say", "/shout"}),
    ):
        write_config(api, f"[plugins]\n{lines}", name)
        shown = api.chat("/help", config_id=name)[-3]["data"].split()
        assert {"/say", "/shout"} & set(shown) == on, name
        assert "/reset" in shown, "the built-in ones are always on"


def test_a_plugin_is_imported_only_once_a_config_enables_it(make_scripted: Make) -> None:
    api, _ = make_scripted(say, agent="titles = false\n[plugins]\nenabled = []", plugins=[Recorder])
    assert made == []
    write_config(api, '[plugins]\nenabled = ["recorder"]', "later")
    assert api.chat("/shout it", config_id="later")[-3]["data"] == "IT"
    assert made[0].calls[0] == ("startup", "recorder")


def test_an_unknown_plugin_name_is_reported(
    make_scripted: Make, caplog: pytest.LogCaptureFixture
) -> None:
    make_scripted(say, agent='titles = false\n[plugins]\nenabled = ["*", "helo"]')
    assert "configs/default.toml: plugins.helo: there is no plugin of this name" in caplog.text


def test_two_applications_share_no_plugin(tmp_path: Path) -> None:
    states: list[AppState] = []
    modules = set(sys.modules)
    for name in ("one", "two"):
        folder = tmp_path / name / "plugins" / "hello"
        shutil.copytree(EXAMPLE, folder)
        app = create_app(api=AstrBotAPI(data_dir=tmp_path / name))
        states.append(app.extensions["astrbot_api"])
    first, second = (
        next(one.plugin for one in state.agents.plugins.list_records() if one.name == "hello")
        for state in states
    )
    assert first is not second
    assert type(first).__module__ != type(second).__module__
    new = set(sys.modules) - modules
    assert all(name.startswith("_astrbot_plugin_hello_") for name in new if "hello" in name)
    assert "plugin_hello" not in sys.modules
    assert not any(str(tmp_path) in entry for entry in sys.path)
    for state in states:
        state.close()
    assert not any(name.startswith("_astrbot_plugin_") for name in sys.modules)


def write_plugin(data_dir: Path, name: str, text: str, file: str = "plugin.py") -> None:
    folder = data_dir / "plugins" / name
    folder.mkdir(parents=True)
    (folder / file).write_text(text, encoding="utf-8")


GOOD = """
from astrbot_api import Command, hookimpl

class Plugin:
    @hookimpl
    def register_commands(self):
        return [Command("good", "be good", lambda context: "good")]
"""

BAD = {
    "syntax": ("def", "SyntaxError"),
    "missing": ("import no_such_module", "ModuleNotFoundError"),
    "leaves": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "classless": ("x = 1", "has no class named Plugin"),
    "hookless": ("class Plugin: pass", "it has no hook; is @hookimpl missing?"),
    "misspelt": (GOOD.replace("register_commands", "register_comands"), "register_comands"),
    "parameter": (
        GOOD.replace("register_commands(self)", "on_message(self, mesage)"), "mesage",
    ),
    "wrapper": (
        GOOD + "    @hookimpl(wrapper=True)\n    def on_message(self): return (yield)",
        "wrappers are not supported",
    ),
    "nolist": (GOOD.replace("return [", "return 5 or ["), "must return a list, not a int"),
    "strings": (GOOD.replace("return [", 'return ["/good"] or ['), "one is a str"),
    "raises": (GOOD + "    def __init__(self): raise ValueError('not today')", "not today"),
    "start": (
        GOOD + "    @hookimpl\n    def startup(self): raise ValueError('no disk')", "no disk",
    ),
    "async": (
        GOOD + "    @hookimpl\n    async def startup(self): pass",
        "startup: an async function cannot be a hook",
    ),
    "await": (
        GOOD.replace('lambda context: "good"', "self.run") + "    async def run(self, _): ...",
        "command 'good': an async function cannot be a command",
    ),
    "upper": (GOOD.replace('"good"', '"Good"'), "command 'Good': a name is one word in lower case"),
    "slash": (GOOD.replace('"good"', '"/good"'), "without the slash"),
    "words": (GOOD.replace('"good"', '"be good"'), "command 'be good': a name is one word"),
    "enabled": (GOOD, "enabled is a setting of [plugins]"),
    "Capital": (GOOD, "a name has small letters"),
}  # fmt: skip


def test_a_plugin_that_fails_to_load_is_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, (text, _) in BAD.items():
        write_plugin(tmp_path, name, text)
    write_plugin(tmp_path, "good", GOOD)
    write_plugin(tmp_path, "package", GOOD.replace('"good", "', '"p", "'), "__init__.py")
    for folder in ("empty", "__pycache__", ".git"):
        (tmp_path / "plugins" / folder).mkdir()
    (tmp_path / "plugins" / "notes.txt").touch()
    (tmp_path / "plugins" / "single.py").write_text(GOOD, encoding="utf-8")
    app = create_app(api=AstrBotAPI(data_dir=tmp_path))
    state: AppState = app.extensions["astrbot_api"]
    reasons = {one.name: one.reason for one in state.agents.plugins.list_records()}
    state.close()
    for name, (_, reason) in BAD.items():
        assert reason in reasons[name], name
        assert f"plugin {name} (plugins/{name}) is disabled: " in caplog.text
    assert "neither plugin.py nor __init__.py" in reasons["empty"]
    assert reasons["single"].endswith("single.py is no folder; move it to plugins/single/plugin.py")
    assert reasons["good"] == reasons["package"] == ""
    assert not {"__pycache__", ".git", "notes.txt"} & set(reasons)


def test_plugins_list_shows_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.log, "disabled", True)  # xdist cannot report half an emoji
    write_plugin(tmp_path, "good", GOOD)
    write_plugin(tmp_path, "bad", "import no_such_module")
    write_plugin(tmp_path, "half", r'raise ValueError("half \ud83d\n  of it")')
    write_plugin(tmp_path, "off", GOOD)
    add_config(tmp_path, '[plugins]\ndisabled = ["off"]\n[plugins.good]\nx = 1\n')
    done = CliRunner().invoke(main, ["plugins", "list", "--data-dir", str(tmp_path)])
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["bad", "failed", "folder", "plugins/bad"]
    assert lines[1].strip() == "ModuleNotFoundError: No module named 'no_such_module'"
    assert lines[2].split() == ["good", "on", "folder", "plugins/good"]
    assert lines[3].strip() == ("configs/default.toml: plugins.good.x: this plugin has no settings")
    assert lines[4].strip() == "adds /good"
    assert lines[6].strip() == "ValueError: half ? of it"
    assert lines[7].split() == ["off", "off", "folder", "plugins/off"]
    assert not (tmp_path / "astrbot.db").exists()


def test_plugins_new_creates_a_working_plugin_with_passing_tests(
    tmp_path: Path, make_api: Callable[..., Api], pytester_run: Callable[[Path], int]
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --option-of-another-project\n")
    runner = CliRunner()
    done = runner.invoke(main, ["plugins", "new", "my-first", "--data-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "plugins" / "my-first"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.rst", "plugin.py", "pytest.ini", "test_plugin.py",
    ]  # fmt: skip
    for path in folder.iterdir():
        assert "$" not in path.read_text(encoding="utf-8")
    assert pytester_run(folder) == 0
    api = make_api(ASTRBOT_DATA_DIR=str(tmp_path))
    assert api.chat("/my-first")[-3]["data"] == "Hello, alice!"
    again = runner.invoke(main, ["plugins", "new", "my-first", "--data-dir", str(tmp_path)])
    assert again.exit_code == 2
    assert "already exists" in again.output
    bad = runner.invoke(main, ["plugins", "new", "../evil", "--data-dir", str(tmp_path)])
    assert bad.exit_code == 2
    assert "a name has small letters" in bad.output


@pytest.fixture
def pytester_run() -> Callable[[Path], int]:
    """Run the tests of a folder in a separate process."""
    import subprocess

    def run(folder: Path) -> int:
        arguments = ["-q", "-n0", "-W", "error", "-p", "no:cacheprovider", str(folder)]
        return subprocess.run(
            [sys.executable, "-m", "pytest", "--rootdir", str(folder), *arguments],
            check=False, timeout=120, cwd=ROOT,
        ).returncode  # fmt: skip

    return run


def test_the_example_runs_from_a_folder_and_its_own_tests_pass(
    tmp_path: Path, make_api: Callable[..., Api], pytester_run: Callable[[Path], int]
) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "plugins" / "hello")
    add_config(tmp_path, '[provider]\ntype = "mock"\n')
    api = make_api(ASTRBOT_DATA_DIR=str(tmp_path))
    check_example(api)
    api.state.close()
    assert (tmp_path / "plugin-data" / "hello" / "greetings.txt").read_text() == "1\n"
    assert pytester_run(EXAMPLE.parent) == 0


def test_the_example_runs_from_an_installed_package(
    tmp_path: Path, make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "astrbot_plugin_hello-0.1.dist-info"
    info.mkdir()
    metadata = "Metadata-Version: 2.1\nName: astrbot-plugin-hello\nVersion: 0.1\n"
    (info / "METADATA").write_text(metadata)
    (info / "entry_points.txt").write_text("[astrbot_api.plugins]\nhello = plugin_hello:Plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    try:
        api = make_api()
        check_example(api)
        records = {one.name: one.found for one in api.state.agents.plugins.list_records()}
        assert records["hello"].where == "astrbot-plugin-hello 0.1"
    finally:
        for name in [one for one in sys.modules if one.split(".")[0] == "plugin_hello"]:
            del sys.modules[name]


def check_example(api: Api) -> None:
    """Use every feature of the example."""
    plugin: Any = next(
        one.plugin for one in api.state.agents.plugins.list_records() if one.name == "hello"
    )
    assert api.chat("ping")[-3]["data"] == "pong"
    assert api.chat("/hello Ada")[-3]["data"] == "Hello, Ada!"
    told = api.chat('TOOL=greet TOOLARGS={"name":"Ada"} pls')
    assert text_of(told) == "tool said: Hello, Ada!"
    wait_for(lambda: plugin.answers == 1)
    assert plugin.events["end"] == 3
    assert set(HOOKS) <= set(dir(plugin))


def test_an_unreadable_folder_of_plugins_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()

    def list_folder(path: Path) -> Iterator[Path]:  # root may read all folders
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", list_folder)
    done = CliRunner().invoke(main, ["plugins", "list", "--data-dir", str(tmp_path)])
    assert (done.exit_code, done.output.split(";")[0]) == (
        2, f"astrbot-api: {folder}: Permission denied",
    )  # fmt: skip
