"""Take the screenshot of the console for the README: ``make picture``.

It uses a real server and a browser; only the model is scripted. It needs Chromium, a
Chinese font (``fonts-wqy-microhei``) and the packages of the tests.
"""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from werkzeug.serving import make_server

from astrbot_api import (
    Delta,
    ModelMessage,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    tool,
)
from astrbot_api.testing import ScriptedModel, make_app

PICTURE = Path(__file__).parent / "_static" / "console.png"
MAX_BYTES = 200_000
PASSWORD = "only for the picture"
QUESTION = "Where is my order 1047, and can I still change the address?"
THOUGHT = (
    "The customer asks about a certain order. I should look it up before I promise anything "
    "about the address."
)
ANSWER = """Order **1047** left the warehouse this morning:

| Item | Pieces | State |
| --- | --- | --- |
| Teapot, *cast iron* | 1 | shipped |
| Sencha, 100 g | 2 | shipped |

It arrives on **Friday**. The address can be changed with the link in the carrier's mail."""


@tool
def find_order(number: int) -> dict[str, Any]:
    """Find an order of the shop.

    :param number: Number of the order.
    """
    time.sleep(0.2)
    return {"number": number, "state": "shipped", "carrier": "Kuroneko", "arrives": "Friday"}


def think(messages: list[ModelMessage]) -> Iterator[Delta]:
    """Yield reasoning, then a tool call."""
    for piece in re.findall(r"\S+\s*", THOUGHT):
        time.sleep(0.005)
        yield ReasoningDelta(piece)
    yield ToolCallDelta(0, "call_1", "find_order", json.dumps({"number": 1047}))
    yield Usage(input_other=186, input_cached=1024, output=41)


def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
    """Yield an answer with the tool's result."""
    for piece in re.findall(r"\S+\s*", ANSWER):
        time.sleep(0.005)
        yield TextDelta(piece)
    yield Usage(input_other=214, input_cached=1024, output=96)


def main() -> None:
    """Start the server, send the question, take the screenshot."""
    logging.disable(logging.INFO)
    with make_app(
        ScriptedModel(think, answer, "Order 1047"),
        config="[agent]\ntitles = true\n",
        tools=[find_order],
        find_plugins=False,
        admin_password=PASSWORD,
    ) as shop:
        server = make_server("127.0.0.1", 0, shop.app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            taken = _take(f"http://127.0.0.1:{server.port}")
        finally:
            server.shutdown()
    # 256 colours are enough for a web page and need a third of the bytes.
    picture = Image.open(io.BytesIO(taken)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(PICTURE, optimize=True)
    size_bytes = PICTURE.stat().st_size
    print(f"{PICTURE}: {picture.width} x {picture.height}, {size_bytes} bytes")
    if size_bytes > MAX_BYTES:
        raise SystemExit(f"The picture has more than {MAX_BYTES} bytes.")


def _take(url: str) -> bytes:
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": 1440, "height": 900}, device_scale_factor=1.25,
            color_scheme="light", locale="en-US",
        )  # fmt: skip
        taken = _talk(page, url)
        browser.close()
    return taken


def _talk(page: Page, url: str) -> bytes:
    page.goto(f"{url}/admin/login")
    page.fill("#username", "astrbot")
    page.fill("#password", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url("**/admin/")
    page.goto(f"{url}/admin/console")
    page.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
    page.fill("#user", "alice")
    page.fill("#message", QUESTION)
    page.press("#message", "Enter")
    page.locator("#thread").get_by_text("carrier's mail").wait_for()
    page.locator("#send").wait_for(state="visible")
    for fold in page.locator("#thread details").all():
        fold.evaluate("element => { element.open = true }")
    page.locator("#scroll").evaluate("element => element.scrollTo(0, element.scrollHeight)")
    page.locator("#events").evaluate("element => element.scrollTo(0, element.scrollHeight)")
    page.locator("#message").blur()
    return page.screenshot()


if __name__ == "__main__":
    main()
