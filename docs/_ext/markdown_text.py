"""The little Markdown of the OpenAPI document, as reStructuredText."""

from __future__ import annotations

import re


def to_rst(text: str) -> str:
    """Turn ``code`` spans over and keep the rest as it is said.

    The texts have paragraphs and backticks, and no other marks.
    """
    pieces = re.split(r"`([^`]+)`", text)
    return "".join(
        f"``{piece.strip()}``" if at % 2 else re.sub(r"([\\*_|])", r"\\\1", piece)
        for at, piece in enumerate(pieces)
    )
