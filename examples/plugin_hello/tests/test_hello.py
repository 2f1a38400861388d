"""Run it with: python -m pytest examples/plugin_hello"""

from __future__ import annotations

from pathlib import Path

from astrbot_api import Handled
from astrbot_api.testing import ScriptedModel, make_app
from astrbot_api.testing.plugins import call_tool, list_commands, load_plugin, make_turn_context

FOLDER = Path(__file__).parent.parent / "plugin_hello"
SETTINGS = {"greeting": "Good day", "secret_words": ["swordfish"]}


def load():
    return load_plugin(FOLDER)


def test_the_tool_greets_with_the_word_of_the_config() -> None:
    plugin = load()
    assert call_tool(plugin, "greet", {"name": "Ada"}, settings=SETTINGS) == "Good day, Ada!"
    loud = call_tool(plugin, "greet", {"name": "Ada", "loudly": True}, settings=SETTINGS)
    assert loud == "GOOD DAY, ADA!"


def test_a_bad_call_is_explained_to_the_model() -> None:
    said = call_tool(load(), "greet", {"name": [5]}, settings=SETTINGS)
    assert said == "error: bad arguments: name: [5] is not of type 'string'"


def test_a_ping_never_reaches_the_model() -> None:
    plugin = load()
    assert plugin.on_message(make_turn_context(SETTINGS), " Ping ") == Handled("pong")
    assert plugin.on_message(make_turn_context(SETTINGS), "help pls") == "help please"
    assert plugin.on_message(make_turn_context(SETTINGS), "help") is None


def test_secret_words_are_hidden_from_the_model() -> None:
    messages = [{"role": "user", "content": "it is swordfish"}]
    given = load().before_model(make_turn_context(SETTINGS), messages)
    assert given == [{"role": "user", "content": "it is *********"}]


def test_it_answers_over_http() -> None:
    with make_app(ScriptedModel("Hi"), plugins=[type(load())]) as app:
        base = "/api/v1/plugins/extensions/plugin"
        assert app.client.get(f"{base}/health").json == {"ok": True}
        assert app.client.get(f"{base}/greetings/ada").status_code == 401
        headers = {"X-API-Key": app.create_key("plugin")}
        answer = app.client.get(f"{base}/greetings/ada", headers=headers)
        assert answer.json == {"name": "ada", "greetings": 0}


def test_there_is_a_command() -> None:
    assert list(list_commands(load())) == ["hello"]
