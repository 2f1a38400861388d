"""No input makes a regular expression run for hours."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

import astrbot_api
from astrbot_api.agent.toolbox import parse_arguments
from astrbot_api.app import _RequestLine
from astrbot_api.config.agents import ProviderConfig
from astrbot_api.files.names import find_file_name
from astrbot_api.http.conversation import make_file_part
from astrbot_api.providers.endpoint import Endpoint
from astrbot_api.providers.failures import EndpointRefusal, ReportedError
from astrbot_api.providers.fixes import find_fixes
from astrbot_api.providers.key_ring import KeyRing
from astrbot_api.providers.reported_errors import ReportedErrors

#: Characters that patterns repeat. Each pair is tried repeatedly.
_SIGNS = (
    "a",
    "0",
    " ",
    "\n",
    ",",
    "/",
    "=",
    ";",
    ".",
    "-",
    "_",
    '"',
    "\\",
    "[",
    "<",
    ":",
    "&",
    "*",
)

#: Enough to detect exponential growth, few enough for quadratic growth.
_REPETITIONS = 100


def _list_patterns() -> Iterator[tuple[str, re.Pattern[str] | re.Pattern[bytes]]]:
    root = Path(astrbot_api.__file__).parent
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root.parent).with_suffix("")
        if "testing" in place.parts or "re.compile(" not in path.read_text(encoding="utf-8"):
            continue
        module = ".".join(place.parts).removesuffix(".__init__")
        with suppress(ImportError):  # of an extra that is not installed
            for name, value in vars(importlib.import_module(module)).items():
                if isinstance(value, re.Pattern):
                    yield f"{module}.{name}", value


_PATTERNS = dict(_list_patterns())


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", _PATTERNS)
def test_a_pattern_ends_whatever_is_repeated(name: str) -> None:
    pattern = _PATTERNS[name]
    for pair in product(_SIGNS, repeat=2):
        text = "".join(pair) * _REPETITIONS + "\0"
        for look in (pattern.search, pattern.fullmatch):
            look(text.encode() if isinstance(pattern.pattern, bytes) else text)  # type: ignore[operator, arg-type]


@pytest.mark.timeout(30)
def test_the_header_of_a_prefix_is_read_in_no_time() -> None:
    environ = {"HTTP_HOST": "x", "HTTP_X_FORWARDED_PREFIX": " ," * 4000 + "x", "PATH_INFO": "/"}
    seen: list[bool] = []

    def app(environ: dict[str, str], start_response: object) -> list[bytes]:
        seen.append("HTTP_X_FORWARDED_PREFIX" in environ)
        return []

    _RequestLine(app)(environ, lambda *_: None)  # type: ignore[arg-type]
    assert seen == [False]


@pytest.mark.timeout(30)
def test_a_thousand_addresses_are_looked_at_in_no_time() -> None:
    url = "/files/a&" * 220 + "\n\n"
    for _ in range(20_000):
        assert make_file_part(url, None, None)["type"] == "file"


@pytest.mark.timeout(30)
def test_blanks_in_what_a_model_or_a_client_sends_are_read_once() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        parse_arguments("```json" + "\n" * 1_000_000 + "x")
    assert find_file_name(b" " * 128_000) is None
    assert parse_arguments(' ```json\n{"a": "```"}\n ``` \n') == {"a": "```"}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("word", ["maximum", "corrupt", "function", "-_"])
def test_an_error_text_that_repeats_a_users_words_is_read_once(word: str) -> None:
    text = "too many tokens: " + (word * 16_000)[:32_000]
    changing = _PATTERNS["astrbot_api.providers.openai._CHANGING"]
    for _ in range(5):
        refusal = EndpointRefusal(400, text)
        first, *_ = find_fixes(400, refusal.text, {"messages": [], "tools": [{}]})
        assert first.kind == "too_long"
        assert changing.sub("", text)  # type: ignore[arg-type, call-overload]


def test_a_long_error_inside_an_answer_is_cut() -> None:
    endpoint = Endpoint(
        ProviderConfig("p", "openai", base_url="http://127.0.0.1:1/v1"), KeyRing(())
    )
    error = ReportedErrors(endpoint).read_error({"message": "x" * 100_000})
    assert isinstance(error, ReportedError)
    assert len(error.text) < 20_000
