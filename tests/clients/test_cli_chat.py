"""``astrbot-api chat``: single questions and conversations in the terminal."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from astrbot_client import ChatStream, Client, _sync_client
from click.testing import CliRunner
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from astrbot_api.agent.provider import TextDelta
from astrbot_api.cli import chat
from astrbot_api.cli.main import main
from astrbot_api.testing import ScriptedApp, ScriptedModel, make_app
from tests.servers import serve
from tests.waiting import wait_for

#: Escape sequence with which a terminal replaces its user's clipboard.
CLIPBOARD = "\x1b]52;c;cm0gLXJm\x07"


@pytest.fixture
def app() -> Iterator[ScriptedApp]:
    with make_app(ScriptedModel("One.", "**Two.**", f"Three.{CLIPBOARD}")) as app:
        yield app


@pytest.fixture
def url(app: ScriptedApp) -> Iterator[str]:
    with serve(app.app) as url:
        yield url


def test_one_question_is_answered_on_the_standard_output(
    app: ScriptedApp, url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("some text", encoding="utf-8")
    options = ["--url", url, "--key", app.key, "--file", str(tmp_path / "a.txt")]
    done = CliRunner().invoke(main, ["chat", "Hello", *options])
    assert (done.exit_code, done.output) == (0, "One.\n")
    assert "some text" in str(app.model.seen[0])
    piped = CliRunner().invoke(main, ["chat", *options[:4]], input="From a pipe")
    assert piped.output == "**Two.**\n"
    assert "From a pipe" in str(app.model.seen[1])
    escaped = CliRunner().invoke(main, ["chat", "Hello", *options[:4]])
    assert escaped.output == "Three.]52;c;cm0gLXJm\n"


def test_an_error_is_one_line(url: str) -> None:
    done = CliRunner().invoke(main, ["chat", "Hello", "--url", url, "--key", "abk_wrong"])
    assert done.exit_code == 2
    assert done.stderr == "astrbot-api: Invalid API key (HTTP 401, invalid_api_key)\n"


def test_a_wrong_address_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sync_client, "sleep", lambda _: pytest.fail("the request was retried"))
    done = CliRunner().invoke(main, ["chat", "Hello", "--url", "127.0.0.1:1", "--key", "abk_any"])
    assert done.exit_code == 2
    assert "refused (at http://127.0.0.1:1; start the server, or" in done.stderr


@pytest.mark.parametrize("base_url", ["localhost:6185", "127.0.0.1:6185", ""])
def test_a_base_url_without_a_scheme_is_rejected_at_once(base_url: str) -> None:
    with pytest.raises(ValueError, match="must begin with http:// or https://"):
        Client(base_url, api_key="abk_x")


def test_an_error_cannot_control_the_terminal() -> None:
    def refuse(environ: Any, start_response: Any) -> list[bytes]:
        start_response("404 NOT FOUND", [("Content-Type", "application/json")])
        message = f"No such session.{CLIPBOARD}"
        error = {"status": "error", "code": "session_not_found", "message": message, "data": None}
        return [json.dumps(error).encode()]

    with serve(refuse) as url:
        done = CliRunner().invoke(main, ["chat", "Hello", "--url", url, "--key", "abk_any"])
    assert done.stderr.startswith("astrbot-api: No such session.]52;c;cm0gLXJm")
    assert not set(done.stderr[:-1]) & {"\x1b", "\x07"}


def test_a_key_with_a_wrong_character_is_one_line() -> None:
    for key in ("“abk_copied”", "abk_a\nb"):
        done = CliRunner().invoke(main, ["chat", "Hello", "--key", key])
        assert done.exit_code == 2
        assert "a character that no key has" in done.output


def test_a_conversation_keeps_its_session_until_the_end(
    app: ScriptedApp,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    lines = ["First", "Second", "/fresh", "Third", "/sessions", "/open 9", "/quit"]
    with (
        create_pipe_input() as keyboard,
        create_app_session(input=keyboard, output=DummyOutput()),
        Client(url, api_key=app.key) as client,
    ):
        keyboard.send_text("".join(f"{line}\r" for line in lines))
        chat._converse(chat.Conversation(client, "bob"))
        listed = list(client.sessions.list("bob"))
    shown = capsys.readouterr().out
    assert len(listed) == 2
    assert [len(one) for one in app.model.seen] == [2, 4, 2]  # including the config's prompt
    assert "Two." in shown
    assert "**Two.**" not in shown
    assert "Three." in shown
    assert CLIPBOARD[:5] not in shown
    assert "there is no session '9'" in shown
    assert "First" in (tmp_path / "astrbot-api" / "history").read_text(encoding="utf-8")


class Watched(chat.Conversation):
    """A conversation whose last stream can be inspected."""

    def ask(self, text: str) -> ChatStream:
        self.stream = super().ask(text)
        return self.stream


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Take SIGINT, which background jobs of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_stops_the_answer_and_not_the_conversation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    returned = threading.Event()
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def answer(messages: Any) -> Iterator[TextDelta]:
        yield TextDelta("Half")
        wait_for(lambda: talk.stream.reply.text == "Half")
        signal.pthread_kill(main_thread, signal.SIGINT)
        returned.wait(20)
        yield TextDelta(" and the rest")

    with (
        make_app(ScriptedModel(answer, "Again.")) as app,
        serve(app.app) as url,
        Client(url, api_key=app.key) as client,
    ):
        talk = Watched(client, "bob")
        chat._answer(talk, "First", Console(width=80))
        returned.set()

        def list_messages() -> list[Any]:
            return list(client.sessions.messages(talk.session_id, username="bob"))

        # Otherwise the next message may be stored before the stopped answer.
        wait_for(lambda: len(list_messages()) == 2)
        chat._answer(talk, "Second", Console(width=80))
        messages = list_messages()
    assert "Again." in capsys.readouterr().out
    said = [one["content"]["message"][-1]["text"] for one in messages]
    assert said == ["First", "Half", "Second", "Again."]
