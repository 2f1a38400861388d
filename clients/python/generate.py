"""Generate ``_sync_client.py`` from ``_async_client.py``: the same code without ``async``.

::

    python clients/python/generate.py

A test compares the file with the output of this program.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "astrbot_client"
SOURCE, TARGET = FOLDER / "_async_client.py", FOLDER / "_sync_client.py"

_HEAD = '''\
# fmt: off
# ruff: noqa
"""The client. Generated from ``_async_client.py`` by ``generate.py``: edit that file."""
'''

_REPLACEMENTS = (
    (r"\basync (def|with|for) ", r"\1 "),
    (r"\bawait ", ""),
    (r"\basync_sleep\b", "sleep"),
    (r"\bAsync(Client|ChatStream|Runs|Sessions|Files|Im|Keys|Iterator)\b", r"\1"),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\ba(close|read|iter_bytes|iter_raw)\b", r"\1"),
)


def make_sync(source: str) -> str:
    """Return the source of the sync client."""
    text = source.split('"""\n', 1)[1]
    for pattern, replacement in _REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    return _HEAD + text


if __name__ == "__main__":
    TARGET.write_text(make_sync(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
