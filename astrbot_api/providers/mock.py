"""Scripted model that follows keywords in the user's message, for tests of clients.

It needs no network and is deterministic, so a test can produce every event
and every failure. The keywords may be anywhere in the last user message:

=====================  ======================================================
(no keyword)           ``Hello from mock.``, in 4 tokens
``ECHO``               ``echo: `` and the message
``SAY=text``           this text, which has no spaces
``THINK``              three pieces of reasoning first: ``Let me think about it.``
``TOOL``               calls the first tool; after its result:
                       ``tool said: `` and the first 60 characters of the result
``TOOL=name``          calls the tool of this name
``TOOLARGS=json``      arguments of the call without spaces, by default ``{}``
``N=count``            ``tok0 tok1 …``, this number of tokens
``SLOW``               20 tokens, one every 200 ms
``DELAY=ms``           a pause before every token
``FIRST=ms``           a pause before the first token
``LONG``               one token of 4000 characters
``EMPTY``              an answer without content
``DROP=count``         drops the connection after this number of tokens
``FINISH=reason``      finish reason, for example ``length``, ``content_filter``
``FAIL=status``        fails with this HTTP status
``FAILONCE=status``    fails with this status the first time the message is sent
=====================  ======================================================

The usage is 10 prompt tokens per message, and the number of the answer's tokens.
The fake endpoint (:mod:`astrbot_api.testing.fake_openai`) supports the same keywords.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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

#: Id of the tool call of a scripted answer.
TOOL_CALL_ID = "call_mock_1"

#: Maximum number of remembered ``FAILONCE`` messages.
_MAX_REMEMBERED = 1000

#: Prefix of text parts that the server adds to the user's message.
_REMINDER = "<system_reminder>"


@dataclass(frozen=True, slots=True)
class Script:
    """A scripted answer.

    :param text: The last user message.
    :param tokens: Pieces of the answer.
    :param reasoning: Pieces of reasoning before the answer.
    :param tool: Tool call instead of the tokens.
    :param delay_s: Pause before each token, in seconds.
    :param first_delay_s: Pause before the first token, in seconds.
    :param fail_status: HTTP status of the failure, or 0 to succeed.
    :param fail_once_status: Status of the failure on the first request with ``text``, or 0.
    :param drop_after: Number of tokens before the connection is dropped, or None.
    :param prompt_tokens: Prompt tokens in the usage.
    :param finish: Finish reason, or empty for the default.
    """

    text: str
    tokens: tuple[str, ...]
    reasoning: tuple[str, ...] = ()
    tool: ToolCallDelta | None = None
    delay_s: float = 0.0
    first_delay_s: float = 0.0
    fail_status: int = 0
    fail_once_status: int = 0
    drop_after: int | None = None
    prompt_tokens: int = 0
    finish: str = ""


@dataclass(slots=True)
class FailOnce:
    """Remembers messages that have already failed."""

    _seen: set[str] = field(default_factory=set)

    def choose_status(self, script: Script) -> int:
        """Return the HTTP status of this attempt's failure, or 0 if it succeeds."""
        if script.fail_once_status and script.text not in self._seen:
            if len(self._seen) >= _MAX_REMEMBERED:
                self._seen.clear()
            self._seen.add(script.text)
            return script.fail_once_status
        return script.fail_status


def parse_script(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> Script:
    """Parse the keywords of the last user message.

    A keyword is ignored if it needs a number and has none.

    :param messages: The conversation, in the format of chat completions.
    :param tools: The tools of the request. May be empty.
    :returns: Equal scripts for equal arguments.
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
    """Return the text of the last user message and its index, or -1 if there is no such message."""
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
) -> tuple[ToolCallDelta | None, tuple[str, ...]]:
    """Return the tool call, or the tokens that quote the result of an earlier call."""
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
    # Names of MCP tools have a dot here and ``__`` at endpoints. Both spellings are accepted.
    spelled = (wanted or "").replace(".", "__")
    name = next((one for one in names if one.replace(".", "__") == spelled), names[0])
    return ToolCallDelta(0, TOOL_CALL_ID, name, _value(text, "TOOLARGS") or "{}"), ()


def _value(text: str, word: str) -> str | None:
    if f"{word}=" not in text:  # faster than the pattern for megabytes of text
        return None
    found = re.search(rf"(?:^|\s){word}=(\S+)", text)
    return found.group(1) if found else None


def _number(text: str, word: str) -> int | None:
    value = _value(text, word) or ""
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else None


class MockProvider:
    """Provider of the scripted model."""

    def __init__(self) -> None:
        self._fail_once = FailOnce()

    def stream(
        self,
        messages: Sequence[ModelMessage],
        tools: Sequence[ToolSpec],
        options: ModelOptions,
    ) -> Iterator[Delta]:
        """Yield the answer scripted by the last user message.

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
    """Yield pairs of a pause in seconds and the delta that follows it."""
    yield script.first_delay_s, None
    for thought in script.reasoning:
        yield script.delay_s, ReasoningDelta(thought)
    if script.tool is not None:
        yield 0.0, replace(script.tool, arguments="")
        yield 0.0, ToolCallDelta(0, arguments=script.tool.arguments)
        return
    for index, token in enumerate(script.tokens):
        if script.drop_after is not None and index >= script.drop_after:
            raise ProviderError(failures.BROKE_OFF)
        yield script.delay_s, TextDelta(token)
