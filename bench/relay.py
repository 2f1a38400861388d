"""Forwards a model's answer without storing it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import urllib3

from bench.source import make_frame

_POOL = urllib3.PoolManager(maxsize=64, block=False)


def iter_relayed(message: str) -> Iterator[str]:
    """Yield a frame for each token of the endpoint's answer."""
    body = {"model": "mock", "stream": True, "messages": [{"role": "user", "content": message}]}
    url = f"{os.environ['BENCH_MODEL']}/chat/completions"
    answer = _POOL.request("POST", url, json=body, preload_content=False)
    try:
        for number, line in enumerate(answer):
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and (token := choices[0]["delta"].get("content")):
                    yield make_frame(number, token)
    finally:
        answer.release_conn()
