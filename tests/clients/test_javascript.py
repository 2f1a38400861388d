"""What only the JavaScript client does. Its server is a function in place of ``fetch``."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from .driving import ROOT

_SCRIPT = """
const { Client } = await import(process.argv[1]);
const made = [];
const apiKey = async () => (made.push(1), "abk_x");
const options = { apiKey, fetch: async () => answer(), retryS: 0.1, readTimeoutS: 0.05 };
const ask = async () => new Client(process.argv[2], options).request("GET", "/configs");
const error = await ask().catch((one) => one);
console.log(JSON.stringify({ keys: made.length, kind: error.name, message: error.message }));
"""


def run(answer: str, base_url: str = "http://localhost") -> dict[str, Any]:
    """Return the outcome of a request that a JavaScript function answers."""
    client = (ROOT / "clients" / "js" / "client.js").as_uri()
    if (node := shutil.which("node")) is None:
        pytest.skip("node is not installed")
    command = [node, "--input-type=module", "-e", f"{answer}\n{_SCRIPT}", client, base_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        ('{"status": "error", "code": "budget_exhausted"}', 2),
        ('{"status": "error", "code": "too_many_turns"}', 1),
        ("<html>429 Too Many Requests</html>", 1),
    ],
)
def test_only_an_exhausted_key_is_replaced(body: str, keys: int) -> None:
    made = run(f"const answer = () => new Response({json.dumps(body)}, {{ status: 429 }});")
    assert (made["keys"], made["kind"]) == (keys, "ApiError")


def test_a_response_that_stalls_is_given_up() -> None:
    failed = run("const answer = () => new Response(new ReadableStream({}));")
    assert failed["kind"] == "ConnectionLost"
    assert "the server went silent" in failed["message"]


@pytest.mark.parametrize("base_url", ["localhost:6185", "127.0.0.1:6185", "chat.example.com", ""])
def test_a_base_url_without_a_scheme_is_rejected_at_once(base_url: str) -> None:
    failed = run("const answer = () => { throw new TypeError('fetch failed'); };", base_url)
    assert (failed["keys"], failed["kind"]) == (0, "TypeError")
    assert f"must begin with http:// or https://: {base_url}" in failed["message"]
