"""``widget.js`` is served to any page, is small, and supports both languages."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from astrbot_api.http import widget
from astrbot_api.http.widget import page
from astrbot_api.translations import WIDGET, load_catalogue

from .conftest import Api

STATIC = Path(widget.__file__).parent / "static"


def test_the_script_needs_no_key_and_any_origin_may_load_it(api: Api) -> None:
    answer = api.client.get("/api/v1/widget.js", headers={"Origin": "https://shop.example"})
    assert answer.status_code == 200
    assert answer.mimetype == "text/javascript"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    tag = answer.headers["ETag"]
    again = api.client.get("/api/v1/widget.js", headers={"If-None-Match": tag})
    assert again.status_code == 304


def test_the_script_is_below_40_kilobytes_and_names_its_licences(api: Api) -> None:
    script = api.client.get("/api/v1/widget.js").data
    assert len(gzip.compress(script)) < 40_000
    assert b"MarkedJS" in script[:2000]
    assert not re.search(rb"^(export|import) ", script, re.MULTILINE)


def test_no_text_of_the_script_has_several_lines(api: Api) -> None:
    # The indentation of lines is removed.
    own = api.client.get("/api/v1/widget.js").text.partition("const CHINESE")[2]
    assert [line for line in own.splitlines() if line.count("`") % 2] == []


def test_only_the_files_that_pages_load_are_served(api: Api) -> None:
    for name in ("temml.min.js", "temml.license.txt"):
        with api.client.get(f"/api/v1/widget/{name}") as answer:
            assert answer.status_code == 200
    assert api.client.get("/api/v1/widget/element.js").status_code == 404


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("provider_error", "The answer failed."),
        ("run_interrupted", "The answer failed."),
        ("storage_error", "This failed. Try again later."),
        ("rate_limited", "Too many messages. Try again later."),
        ("server_busy", "Too many messages. Try again later."),
        ("session_busy", "Wait for the end of the answer."),
        ("budget_exhausted", "The message limit is reached."),
        ("context_length_exceeded", "The conversation is too long."),
        ("quota_exceeded", None),
    ],
)
def test_the_widget_names_what_failed(code: str, text: str | None) -> None:
    source = (STATIC / "element.js").read_text(encoding="utf-8")
    texts = re.findall(r'\[/(\S+)/, "([^"]+)"\]', source)
    assert next((one for codes, one in texts if re.search(codes, code)), None) == text


def test_every_text_of_the_widget_has_a_chinese_translation() -> None:
    source = (STATIC / "element.js").read_text(encoding="utf-8")
    used = set(re.findall(r'#t\("([^"]+)"\)', source))
    used |= set(re.findall(r'"data-label": "([^"]+)"', source))
    used |= set(re.findall(r'\bbutton\("\w+", "([^"]+)"', source))
    used |= set(re.findall(r'\bbutton\("([A-Z]\w+)", \(', source))
    used |= set(re.findall(r'\[/\S+/, "([^"]+)"\]', source))
    used |= {"Assistant", "You", "Send", "Stop"}  # alternatives
    used.add(page._QUESTION)
    assert used == load_catalogue("zh", WIDGET).keys()
