"""Converts the Markdown of the OpenAPI document to reStructuredText."""

from __future__ import annotations

import re


def to_rst(text: str) -> str:
    """Convert ``code`` spans. The texts have only paragraphs and backticks."""
    pieces = re.split(r"`([^`]+)`", text)
    return "".join(
        f"``{piece.strip()}``" if at % 2 else re.sub(r"([\\*_|])", r"\\\1", piece)
        for at, piece in enumerate(pieces)
    )
