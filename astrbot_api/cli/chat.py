"""``astrbot-api chat``: a single question, or a conversation in the terminal.

It uses the client library (``clients/python``), which the server itself does not need.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import AstrBotError

if TYPE_CHECKING:
    from astrbot_client import ApprovalRequired, ChatStream, Client

_MISSING = 'astrbot-api chat needs more packages: pip install "astrbot-api[chat]"'

_HELP = """\
/file PATH     attach a file to the next message
/sessions      list your sessions
/open NUMBER   continue one of them
/fresh         start a new session
/quit          quit, as Ctrl-D does
Ctrl-C stops the answer. Alt-Enter inserts a line break. Other commands go to the server: /help."""


#: Control characters except tab and newline. Escape sequences in an answer, or in a page that a
#: model quotes, could change the terminal, its clipboard and the question before an approval.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


class ChatError(AstrBotError):
    """Raised if the server refused, failed or could not be reached."""


@click.command("chat")
@click.argument("message", required=False)
@click.option(
    "--url", default="http://127.0.0.1:6185", show_default=True, help="Address of the server."
)
@click.option("--key", help="API key (ASTRBOT_KEY).")
@click.option("--username", default="cli", show_default=True)
@click.option("--session", default="", help="Continue this session.")
@click.option("--config", "config_id", help="The config that answers.")
@click.option(
    "--file", "files", multiple=True, type=click.Path(exists=True, dir_okay=False),
    help="Attach this file. Repeatable.",
)  # fmt: skip
def chat_command(
    message: str | None,
    url: str,
    key: str | None,
    username: str,
    session: str,
    config_id: str | None,
    files: tuple[str, ...],
) -> None:
    """Ask a running server and print the answer while it arrives.

    Without MESSAGE, start a conversation. Piped input is sent as one message.
    """
    try:
        from astrbot_client import ApiError, Client, ClientError, ConnectionLost
    except ImportError as error:
        raise ChatError(_MISSING) from error
    secret = (key or os.environ.get("ASTRBOT_KEY", "")).strip()
    if not secret:
        raise click.UsageError("give --key, or set ASTRBOT_KEY")
    if not (secret.isascii() and secret.isprintable()):
        raise click.UsageError("the API key has a character that no key has; copy it again")
    if "://" not in url:
        url = f"http://{url}"
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read()
    try:
        with Client(url, api_key=secret, retry_s=0) as client, suppress(ApiError):
            client.request("GET", "/stats/versions")  # a wrong address fails without retries
        with Client(url, api_key=secret, retry_s=30) as client:
            talk = Conversation(client, username, session, config_id)
            for path in files:
                talk.attach(path)
            _converse(talk) if message is None else _print_turn(talk, message)
    except ClientError as error:
        text = str(error).translate(_CONTROLS)
        if isinstance(error, ConnectionLost):
            text += f" (at {url}; start the server, or set its address with --url)"
        raise ChatError(text) from error


class Conversation:
    """A session, and the attachments for the next message."""

    def __init__(
        self, client: Client, username: str, session_id: str = "", config_id: str | None = None
    ) -> None:
        self.client, self.username, self.session_id = client, username, session_id
        self._config_id = config_id
        self._attached: list[dict[str, Any]] = []
        self._listed: list[str] = []

    def attach(self, path: str, progress: Callable[[int, int | None], None] | None = None) -> str:
        """Upload a file for the next message and return its type."""
        kept = self.client.files.upload(Path(path).expanduser(), progress=progress)
        self._attached.append({"type": kept["type"], "attachment_id": kept["attachment_id"]})
        return str(kept["type"])

    def ask(self, text: str) -> ChatStream:
        """Start a turn with the text and the attached files."""
        parts, self._attached = self._attached, []
        message = [{"type": "plain", "text": text}, *parts] if parts else text
        return self.client.chat(
            message,
            username=self.username,
            session_id=self.session_id or None,
            config_id=self._config_id,
        )

    def list_sessions(self, most: int = 20) -> Iterator[str]:
        """Yield one line for each of the most recent sessions."""
        self._listed = []
        for session in self.client.sessions.list(self.username, order_by="updated_at"):
            self._listed.append(session["session_id"])
            title = (session["display_name"] or session["session_id"]).translate(_CONTROLS)
            yield f"{len(self._listed):3}  {session['updated_at'][:16].replace('T', ' ')}  {title}"
            if len(self._listed) == most:
                return

    def open(self, number: str) -> None:
        """Continue a listed session.

        :raises ChatError: if no session has this number.
        """
        if not self._listed:
            list(self.list_sessions())
        if not number.isdecimal() or not 0 < int(number) <= len(self._listed):
            raise ChatError(f"there is no session {number!r}; /sessions lists them")
        self.session_id = self._listed[int(number) - 1]


def _print_turn(talk: Conversation, message: str) -> None:
    """Print an answer while it arrives."""
    from astrbot_client import ApprovalRequired, TextDelta, TurnFailed

    stream = talk.ask(message)
    for event in stream:
        if isinstance(event, TextDelta) and not event.pushed:
            click.echo(event.text.translate(_CONTROLS), nl=False)
        elif isinstance(event, ApprovalRequired):
            _decide(stream, event)
    click.echo()
    if stream.reply.error is not None:
        raise TurnFailed(*stream.reply.error, stream.reply)


def _decide(stream: ChatStream, call: ApprovalRequired) -> None:
    """Ask the user whether a tool call is allowed, and send the decision.

    :raises ChatError: if standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise ChatError(
            f"{call.name} waits for an approval: send /approve or /reject "
            f"with --session {stream.reply.session_id}"
        )
    allowed = click.confirm(f"\nAllow {call.name} {json.dumps(call.arguments)}?", err=True)
    decision = "approve" if allowed else "reject"
    stream.decide(call.id, decision)


def _converse(talk: Conversation) -> None:
    """Read messages and show answers until the end of the input."""
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory
        from rich.console import Console
    except ImportError as error:
        raise ChatError(_MISSING) from error
    folder = Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "astrbot-api"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    console = Console(highlight=False)
    prompt: PromptSession[str] = PromptSession(
        history=FileHistory(str(folder / "history")), enable_open_in_editor=True
    )
    console.print("[dim]/? shows the commands of this prompt.[/dim]")
    while True:
        try:
            line = prompt.prompt("> ").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if line in ("/quit", "/exit"):
            return
        if line:
            _answer(talk, line, console)


def _answer(talk: Conversation, line: str, console: Any) -> None:
    """Run a command of the prompt, or send a message. Errors are printed."""
    from astrbot_client import ClientError
    from rich.markup import escape

    word, _, rest = line.partition(" ")
    try:
        if word == "/?":
            console.print(_HELP, markup=False)
        elif word == "/file":
            kind = talk.attach(rest.strip())
            console.print(f"[dim]attached as {kind}; it is sent with the next message[/dim]")
        elif word == "/sessions":
            for one in talk.list_sessions():
                console.print(one, markup=False)
        elif word == "/open":
            talk.open(rest.strip())
        elif word == "/fresh":
            talk.session_id = ""
        else:
            _show_turn(talk, line, console)
    except (ClientError, ChatError, OSError) as error:
        console.print(f"[red]{escape(str(error).translate(_CONTROLS))}[/red]")


def _show_turn(talk: Conversation, line: str, console: Any) -> None:
    """Show an answer as Markdown while it arrives. Ctrl-C stops the turn."""
    from astrbot_client import ApprovalRequired, ToolCall, TurnFailed
    from rich.live import Live
    from rich.markdown import Markdown
    from rich.markup import escape

    stream = talk.ask(line)
    with Live(console=console, refresh_per_second=12, vertical_overflow="visible") as live:
        try:
            for event in stream:
                talk.session_id = stream.reply.session_id or talk.session_id
                if isinstance(event, ToolCall):
                    console.print(f"[dim]· {event.name}[/dim]")
                elif isinstance(event, ApprovalRequired):
                    live.stop()
                    _decide(stream, event)
                    live.start()
                live.update(Markdown(stream.reply.text.translate(_CONTROLS)))
        except KeyboardInterrupt:
            stream.stop()
    if stream.reply.error is not None:
        raise TurnFailed(*stream.reply.error, stream.reply)
    for file in stream.reply.attachments:
        name = escape(file["filename"].translate(_CONTROLS))
        console.print(f"[dim]{file['type']}: {name} ({file['attachment_id']})[/dim]")
