"""What a failure of a model's endpoint is called, to the caller and in the log.

The caller of the API gets one of these sentences: never the endpoint's own
text, address or key. The operator's log gets the rest, without keys.
"""

from __future__ import annotations

import email.utils
import re
import time
from datetime import UTC

from ..errors import ProviderError

#: Statuses that say "not now", so the same request may succeed a little later.
PASSING_STATUSES = frozenset({429, 500, 502, 503, 504})

#: How much of an endpoint's text goes into the log, in characters.
_LOGGED_CHARS = 500

_KEYS = re.compile(r"\bsk-[\w\-*.]+|\bBearer\s+[^\s\"',;]+", re.IGNORECASE)
_REDACTED = "[redacted]"

UNREACHABLE = "The model's endpoint could not be reached."
UNTRUSTED = "The model's endpoint could not be reached: its TLS certificate was not accepted."
HUNG_UP = "The model's endpoint closed the connection without an answer."
BROKE_OFF = "The model's endpoint broke off the answer."
ANSWERED_NOTHING = "The model's endpoint answered nothing."
NOT_JSON = "The model's endpoint sent something that is not valid JSON."
NOT_A_MODEL = (
    "The model's endpoint answered with a web page: its address in the config may be wrong."
)
FAILED_MIDWAY = "The model's endpoint answered with an error."


def silent_for(timeout_s: float) -> str:
    """Say that an endpoint was silent for so many seconds."""
    return f"The model's endpoint did not answer within {timeout_s:g} s."


def describe_status(status: int) -> str:
    """Say, in one sentence for the API's caller, what an HTTP status means."""
    code = f"(HTTP {status})"
    if status in (401, 403):
        return f"The model's endpoint refused the server's credentials {code}."
    if status == 429:
        return f"The model's endpoint is rate limited {code}; try again later."
    if 300 <= status < 400:
        return f"The model's endpoint answered with a redirect {code}, which is not followed."
    if 400 <= status < 500:
        return f"The model's endpoint refused the request {code}."
    return f"The model's endpoint answered with an error {code}."


class EndpointRefusal(ProviderError):
    """The endpoint answered with a status that is not a success.

    :param status: The HTTP status.
    :param retry_after_s: What the endpoint asked us to wait, in seconds.
    :param unknown_field: The field of the request that the refusal is about
        and that can be left out: ``stream_options``, which older endpoints do
        not know, or ``tools``, which not every model can use. Empty: none.
    :param reason: As in :class:`ProviderError`.
    """

    def __init__(
        self,
        status: int,
        *,
        retry_after_s: float | None = None,
        unknown_field: str = "",
        reason: str = "",
    ) -> None:
        super().__init__(
            describe_status(status),
            retryable=status in PASSING_STATUSES and not unknown_field,
            retry_after_s=retry_after_s,
            reason=reason,
        )
        self.status = status
        self.unknown_field = unknown_field


#: What endpoints say of a model without tools. Source: the texts of Ollama
#: ("does not support tools", 400), vLLM ("tool choice requires
#: --enable-auto-tool-choice", 400), llama.cpp ("tools param requires --jinja
#: flag", 500) and OpenRouter ("no endpoints found that support tool use", 404).
_NO_TOOLS = re.compile(
    r"support\w* tool|tool\w*[^.]{0,40}(support|requires\b|enable)", re.IGNORECASE
)


def find_unknown_field(status: int, text: str) -> str:
    """Return the optional field of the request that a refusal is about, if any.

    :param text: What the endpoint said.
    """
    if status in (400, 422) and "stream_options" in text:
        return "stream_options"
    if status in (400, 404, 422, 500, 501) and _NO_TOOLS.search(text):
        return "tools"
    return ""


#: What endpoints say of a conversation that is too long. Source: the texts of OpenAI and vLLM
#: ("maximum context length"), llama.cpp ("exceeds the available context size"), Anthropic
#: ("prompt is too long"), Gemini ("input token count … exceeds the maximum"), Ollama ("input
#: length exceeds the context length"), DashScope ("Range of input length should be") and Groq
#: ("Please reduce the length of the messages").
_TOO_LONG = re.compile(
    r"context_length_exceeded|context.?(length|window|size)|prompt is too long"
    r"|input (token|length)[^.]{0,60}exceed|range of input length|reduce the length"
    r"|too many (input )?tokens",
    re.IGNORECASE,
)


def find_reason(status: int, text: str) -> str:
    """Return the code of a refusal that says more than ``provider_error``; empty: none does.

    :param text: What the endpoint said.
    """
    if status == 429:
        return "provider_rate_limited"
    if status in (400, 413, 422, 500) and _TOO_LONG.search(text):
        return "context_length_exceeded"
    return ""


def read_retry_after(value: str | None) -> float | None:
    """Understand a ``Retry-After`` header: seconds, or an HTTP date.

    Source: RFC 9110, 10.2.3.

    :returns: Seconds from now, never negative; None when there is nothing
        to understand.
    """
    text = (value or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - time.time())


def redact(text: str, api_key: str) -> str:
    """Prepare an endpoint's text for the log.

    :param text: What the endpoint, or the library, said.
    :param api_key: The key that was sent; may be empty.
    :returns: At most 500 characters, without the key and without anything
        else that looks like one, control characters escaped.
    """
    if api_key:
        text = text.replace(api_key, _REDACTED)
    # Cut only now: half a key would no longer be recognised.
    return repr(_KEYS.sub(_REDACTED, text)[:_LOGGED_CHARS])
