"""A model that does what the user's message says, for authors of clients.

It needs no network and answers the same way each time, so a test of a client
can bring about every event and every failure. The words may stand anywhere
in the last user message:

=====================  ======================================================
(none of them)         ``Hello from mock.``, in 4 tokens
``ECHO``               ``echo: `` and the message
``SAY=text``           this text, without blanks
``THINK``              three pieces of reasoning first: ``Let me think about it.``
``TOOL``               calls the first tool on offer; with its result at hand:
                       ``tool said: `` and 60 characters of it
``TOOL=name``          calls the tool of this name
``TOOLARGS=json``      its arguments, without blanks; otherwise ``{}``
``N=count``            ``tok0 tok1 …``, this many tokens
``SLOW``               20 tokens, one every 200 ms
``DELAY=ms``           a pause before every token
``FIRST=ms``           a pause before the first token
``LONG``               one token of 4000 characters
``EMPTY``              an answer without content
``DROP=count``         breaks off after this many tokens
``FINISH=reason``      ends for this reason: ``length``, ``content_filter``
``FAIL=status``        fails as an endpoint with this HTTP status does
``FAILONCE=status``    fails so the first time this message is sent
=====================  ======================================================

Usage is 10 prompt tokens a message, and the number of tokens of the answer.
The fake endpoint (:mod:`astrbot_api.testing.fake_openai`) obeys the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..agent.provider import (
    Delta,
    Finished,
    ModelMessage,
    ModelOptions,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
    Usage,
)
from ..errors import ProviderError
from . import failures

#: Id of the one tool call that a scripted answer makes.
TOOL_CALL_ID = "call_mock_1"

#: Messages with ``FAILONCE`` that are remembered.
_MAX_REMEMBERED = 1000

#: Text parts that begin so are notes to the model, not the user's words.
_REMINDER = "<system_reminder>"


@dataclass(frozen=True, slots=True)
class ToolCallPlan:
    """The tool call that a scripted answer makes, in place of its tokens.

    :param arguments: JSON text.
    """

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Script:
    """What one scripted answer is.

    :param text: The last user message.
    :param tokens: The answer, piece by piece.
    :param reasoning: Thinking that comes before it, piece by piece.
    :param tool: Called in place of the answer.
    :param delay_s: Pause before each token, in seconds.
    :param first_delay_s: Pause before the first one, in seconds.
    :param fail_status: Fail with this HTTP status; 0: do not.
    :param fail_once_status: The same, the first time that ``text`` is sent.
    :param drop_after: Break off after so many tokens; None: do not.
    :param prompt_tokens: For the usage.
    :param finish: Why the answer ends; empty: it is whole.
    """

    text: str
    tokens: tuple[str, ...]
    reasoning: tuple[str, ...] = ()
    tool: ToolCallPlan | None = None
    delay_s: float = 0.0
    first_delay_s: float = 0.0
    fail_status: int = 0
    fail_once_status: int = 0
    drop_after: int | None = None
    prompt_tokens: int = 0
    finish: str = ""


@dataclass(slots=True)
class FailOnce:
    """Remembers which messages have failed already."""

    _seen: set[str] = field(default_factory=set)

    def choose_status(self, script: Script) -> int:
        """Return the HTTP status with which this attempt fails; 0: it does not."""
        if script.fail_once_status and script.text not in self._seen:
            if len(self._seen) >= _MAX_REMEMBERED:
                self._seen.clear()
            self._seen.add(script.text)
            return script.fail_once_status
        return script.fail_status


def parse_script(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> Script:
    """Read the words of the last user message.

    :param messages: The conversation, in the shape of chat completions.
    :param tools: The tools on offer; may be empty.
    :returns: The same for the same arguments. A word whose value is no
        number is ignored.
    """
    text, index = _find_last_user(messages)
    words = frozenset(re.split(r"[^A-Za-z0-9_=]+", text))
    tool, said = _plan_tool(text, words, messages[index + 1 :], tools)
    delay_ms = _number(text, "DELAY")
    return Script(
        text=text,
        tokens=said or _choose_tokens(text, words),
        reasoning=("Let me", " think", " about it.") if "THINK" in words else (),
        tool=tool,
        delay_s=0.2 if delay_ms is None and "SLOW" in words else (delay_ms or 0) / 1000,
        first_delay_s=(_number(text, "FIRST") or 0) / 1000,
        fail_status=_number(text, "FAIL") or 0,
        fail_once_status=_number(text, "FAILONCE") or 0,
        drop_after=_number(text, "DROP"),
        prompt_tokens=10 * len(messages),
        finish=_value(text, "FINISH") or "",
    )


def _find_last_user(messages: Sequence[Mapping[str, Any]]) -> tuple[str, int]:
    """Return the text of the last user message, and where it is (-1: nowhere)."""
    for index in range(len(messages) - 1, -1, -1):
        content = messages[index].get("content")
        if messages[index].get("role") != "user":
            continue
        if isinstance(content, str):
            return content, index
        if isinstance(content, list):
            texts = [
                str(part.get("text", ""))
                for part in content
                if isinstance(part, dict) and part.get("type") == "text"
            ]
            return "\n".join(t for t in texts if not t.lstrip().startswith(_REMINDER)), index
    return "", -1


def _choose_tokens(text: str, words: frozenset[str]) -> tuple[str, ...]:
    if "EMPTY" in words:
        return ()
    if "LONG" in words:
        return ("x" * 4000,)
    if "ECHO" in words:
        return ("echo: ", text)
    said = _value(text, "SAY")
    if said is not None:
        return (said[:1], said[1:])
    count = _number(text, "N")
    if count is None and "SLOW" in words:
        count = 20
    if count is not None:
        return tuple(f" tok{n}" if n else "tok0" for n in range(count))
    return ("Hello", " from", " mock", ".")


def _plan_tool(
    text: str,
    words: frozenset[str],
    after: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
) -> tuple[ToolCallPlan | None, tuple[str, ...]]:
    """Return the call to make, or what to say about the result of one."""
    wanted = _value(text, "TOOL")
    if "TOOL" not in words and not wanted:
        return None, ()
    results = [message for message in after if message.get("role") == "tool"]
    if results:
        content = results[-1].get("content")
        if isinstance(content, list):
            content = "".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
        return None, ("tool", " said: ", str(content)[:60])
    if not tools:
        return None, ()
    names = [str((tool.get("function") or {}).get("name")) for tool in tools]
    name = wanted if wanted in names else names[0]
    return ToolCallPlan(name, _value(text, "TOOLARGS") or "{}"), ()


def _value(text: str, word: str) -> str | None:
    if f"{word}=" not in text:  # in megabytes that is quicker
        return None
    found = re.search(rf"(?:^|\s){word}=(\S+)", text)
    return found.group(1) if found else None


def _number(text: str, word: str) -> int | None:
    value = _value(text, word) or ""
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else None


class MockProvider:
    """The scripted model, without an endpoint."""

    def __init__(self) -> None:
        self._fail_once = FailOnce()

    def stream(
        self,
        messages: Sequence[ModelMessage],
        tools: Sequence[ToolSpec],
        options: ModelOptions,
    ) -> Iterator[Delta]:
        """Yield the answer that the last user message asks for.

        :raises ProviderError: on ``FAIL``, ``FAILONCE``, ``DROP`` and ``EMPTY``.
        :raises RunCancelled: when ``options.cancel`` fires.
        """
        cancel = options.cancel
        cancel.raise_if_cancelled()
        script = parse_script(messages, tools)
        status = self._fail_once.choose_status(script)
        if status:
            raise failures.EndpointRefusal(status)
        for pause_s, delta in _play(script):
            if pause_s and cancel.wait(pause_s):
                cancel.raise_if_cancelled()
            cancel.raise_if_cancelled()
            if delta is not None:
                yield delta
        yield Usage(input_other=script.prompt_tokens, output=len(script.tokens))
        if script.finish:
            yield Finished(script.finish)
        if not (script.tokens or script.reasoning or script.tool):
            raise ProviderError(failures.ANSWERED_NOTHING)


def _play(script: Script) -> Iterator[tuple[float, Delta | None]]:
    """Yield the answer's deltas, each with the pause before it, in seconds."""
    yield script.first_delay_s, None
    for thought in script.reasoning:
        yield script.delay_s, ReasoningDelta(thought)
    if script.tool is not None:
        yield 0.0, ToolCallDelta(0, TOOL_CALL_ID, script.tool.name)
        yield 0.0, ToolCallDelta(0, arguments=script.tool.arguments)
        return
    for index, token in enumerate(script.tokens):
        if script.drop_after is not None and index >= script.drop_after:
            raise ProviderError(failures.BROKE_OFF)
        yield script.delay_s, TextDelta(token)
