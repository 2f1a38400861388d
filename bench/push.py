"""How long a pushed message takes to an open stream, over two workers."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from astrbot_api.testing.fake_openai import FakeOpenAI
from tests.e2e.pushing import push_into_streams
from tests.servers import Server, create_key, write_config

ROUNDS = 3


def measure_pushes(rounds: int = ROUNDS) -> dict[str, Any]:
    """1,000 messages into 50 open streams: from the request to each stream, in milliseconds."""
    delays_ms: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, FakeOpenAI() as model:
            path = Path(folder)
            write_config(path, model.base_url, agent="titles = false")
            limits = {"ASTRBOT_MAX_STREAMS_PER_KEY": "0", "ASTRBOT_MAX_RUNS_PER_KEY": "0"}
            with Server(path, **limits) as server:
                key = create_key(path, "chat", "im")
                streams, sent_at = push_into_streams(server, key, streams=50, messages=1000)
        for one in streams:
            assert len(one.seen) == 20, f"{one.session_id} has seen {len(one.seen)}"
            delays_ms += [1000 * (at - sent_at[text]) for text, at in one.seen_at.items()]
    cuts = statistics.quantiles(delays_ms, n=100)
    return {
        "messages": len(delays_ms),
        "delay_p50_ms": round(cuts[49], 1),
        "delay_p99_ms": round(cuts[98], 1),
        "delay_max_ms": round(max(delays_ms), 1),
    }


if __name__ == "__main__":
    print(json.dumps(measure_pushes(), indent=2))
