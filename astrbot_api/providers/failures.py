"""Errors of model endpoints, and their texts for API callers and for the log.

The API's caller gets one of these sentences, and the endpoint's own text without keys and
addresses where that is safe. The log gets the rest, without keys.
"""

from __future__ import annotations

import math
import re

from ..errors import ProviderError
from ..runtime.calls import OutboundError
from ..runtime.pauses import read_pause_in_words
from .error_texts import find_words, quote, with_words
from .quirks import (
    is_balance_used_up,
    is_flagged,
    is_misread_call,
    is_moderated,
    is_too_long,
    may_pass,
)

UNREACHABLE = (
    "The model's endpoint could not be reached: check that it runs, and base_url and proxy in the "
    "config."
)
NO_HANDSHAKE = (
    "The model's endpoint could not be reached: it refused the TLS handshake. It may know only old "
    "versions of TLS, or want a client's certificate. The log has the reason."
)
NOT_TLS = (
    "The model's endpoint could not be reached: it does not speak TLS. Write http:// instead of "
    "https:// into base_url in the config."
)
BROKE_OFF = "The model's endpoint broke off the answer."
ANSWERED_NOTHING = "The model's endpoint answered nothing."
NOT_JSON = "The model's endpoint sent something that is not valid JSON."
NOT_A_MODEL = (
    "The model's endpoint answered with a web page: its address in the config may be wrong."
)
FAILED_MIDWAY = "The model's endpoint answered with an error."
FILTERED = "The model gave no answer: its endpoint's content filter withheld it."
THOUGHT_ONLY = (
    "The model thought, but gave no answer. If it ran out of tokens, raise the request's limit "
    "(max_tokens, max_output_tokens) or max_tokens in the config's [provider.extra], or ask for "
    "less thinking."
)
NO_ROOM = (
    "The model gave no answer: it ran out of tokens. Raise the request's limit (max_tokens, "
    "max_output_tokens) or max_tokens in the config's [provider.extra], or ask for less."
)
MISREAD_CALL = (
    "The model wrote a tool call that its endpoint could not read. Try again, or use another model."
)
#: Begins with words of OpenAI's errors, which clients search for. Source: "is_error_str_context_
#: window_exceeded" of LiteLLM, "_handle_openai_api_error" of langchain-openai, and crewai.
TOO_LONG = (
    "The conversation exceeds the context window: this model's maximum context length is shorter. "
    "Begin a new one with /reset, or set a smaller history_tokens in the config."
)

TOO_LARGE = (
    "The request with its pictures is too large for the model's endpoint (HTTP 413). Send smaller "
    "pictures, begin a new conversation with /reset, or raise the limit of the endpoint's proxy."
)

#: By reason: the error texts of a request that got no answer.
_NO_ANSWER = {
    "untrusted": (
        "The model's endpoint could not be reached: its TLS certificate was not accepted. If it is "
        "your own, name the file of its authority in the variable SSL_CERT_FILE."
    ),
    "handshake": NO_HANDSHAKE,
    "header": (
        "The model's endpoint was not called: its key or one of its headers in the config has a "
        "character that HTTP forbids, such as a line break or a letter that is not Latin."
    ),
    "broken": "The model's endpoint closed the connection without an answer.",
}

#: OpenSSL's errors for an answer that is not TLS.
_NOT_TLS = re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG")


def explain_no_answer(error: OutboundError) -> ProviderError:
    """Return the error of a request that got no answer."""
    text = _NO_ANSWER.get(error.reason, UNREACHABLE)
    if error.reason == "handshake" and _NOT_TLS.search(str(error)):
        text = NOT_TLS
    return ProviderError(text, retryable=error.reason in ("broken", "unreachable"))


def silent_for(timeout_s: float) -> str:
    """Return the error text of a read timeout."""
    return f"The model's endpoint did not answer within {timeout_s:g} s."


def empty_for(limit_s: float) -> str:
    """Return the error text of an answer that stays open without content."""
    return f"The model's endpoint kept the answer open for {limit_s:g} s without content."


def nothing_for(reason: str) -> str:
    """Return the error text of an empty answer."""
    shown = "" if reason in ("", "stop", "tool_calls") else f" Its reason is {reason}."
    return f"{ANSWERED_NOTHING}{shown}"


def describe_status(status: int, *, spent: bool = False, wait_s: float | None = None) -> str:
    """Return one sentence about an HTTP status for the API's caller.

    :param spent: Whether the account's balance is used up.
    :param wait_s: Delay that the endpoint asks for, in seconds.
    """
    code = f"(HTTP {status})"
    if spent:
        return f"The account at the model's endpoint has no balance left {code}; top it up."
    if status == 401:
        return f"The model's endpoint refused the server's credentials {code}."
    if status == 403:
        return f"The model's endpoint denied access {code}."
    if status == 429:
        when = f"in {math.ceil(wait_s)} s" if wait_s and wait_s < 86_400 else "later"
        return f"The model's endpoint is rate limited {code}; try again {when}."
    if 300 <= status < 400:
        return (
            f"The model's endpoint answered with a redirect {code}, which is not followed: set "
            "base_url in the config to the address it leads to."
        )
    if 400 <= status < 500:
        return f"The model's endpoint refused the request {code}."
    return f"The model's endpoint answered with an error {code}."


#: Words of errors about credentials.
_CREDENTIALS = re.compile(
    r"\bkey|token|credential|authori[sz]|authentic|\barn:|密钥", re.IGNORECASE
)

#: Words of errors with status 400 about the server's key (Gemini, xAI).
_ABOUT_KEY = re.compile(r"\bapi[ _-]?key", re.IGNORECASE)


class EndpointRefusal(ProviderError):
    """Raised when the endpoint responds with an error status, or names one in the body.

    :param text: The endpoint's error text, unchanged.
    :param retry_after_s: Delay that the endpoint asks for, in seconds.
    """

    def __init__(self, status: int, text: str = "", *, retry_after_s: float | None = None) -> None:
        words = quote(find_words(text))
        # Only the operator may see texts about credentials.
        about_key = status == 403 and _CREDENTIALS.search(words) and not is_flagged(status, text)
        if status in (401, 407) or about_key:
            words = ""
        # Gemini names a balance also if only the requests of a minute are used up.
        self.spent = status == 402 or (
            is_balance_used_up(text) and read_pause_in_words(text) is None
        )
        misread = is_misread_call(text)
        wait_s = read_pause_in_words(text) if retry_after_s is None else retry_after_s
        sentence = describe_status(status, spent=self.spent, wait_s=wait_s)
        if misread:
            sentence = MISREAD_CALL
        super().__init__(
            with_words(sentence, words),
            retryable=misread or (may_pass(status) and not self.spent),
            retry_after_s=wait_s,
            reason=find_reason(status, text),
        )
        self.status = status
        self.text = text


class ReportedError(ProviderError):
    """Raised when the endpoint reports an error without a status inside a successful response.

    :param text: The endpoint's error text, unchanged.
    :param words: The part of it that the API's caller may see.
    """

    def __init__(self, text: str, words: str) -> None:
        sentence = MISREAD_CALL if is_misread_call(text) else FAILED_MIDWAY
        moderated = is_moderated(text)
        reason = "provider_refused" if moderated else ""
        super().__init__(with_words(sentence, words), retryable=not moderated, reason=reason)
        #: Status of a comparable error response.
        self.status = 400
        self.text = text


def find_reason(status: int, text: str) -> str:
    """Return an error code more specific than ``provider_error``, or an empty string.

    :param text: The endpoint's error text.
    """
    if status == 429:
        return "provider_rate_limited"
    if status in (400, 413, 422, 500) and is_too_long(text):
        return "context_length_exceeded"
    cause_is_elsewhere = (
        is_misread_call(text) or is_balance_used_up(text) or _ABOUT_KEY.search(text)
    )
    refused = status in (400, 413, 415, 422) and not cause_is_elsewhere
    return "provider_refused" if refused or is_flagged(status, text) else ""
