"""``read_attachment``: the text of a file that the user sent."""

from __future__ import annotations

from ...agent.schema import tool
from ...agent.tools import Tool, ToolAttachment, ToolContext
from ...errors import ToolError
from ..hookspecs import hookimpl

#: What is read of a file, and what the model is given of it at a time.
MAX_BYTES = 4 * 1024 * 1024
MAX_CHARS = 16_000

_TEXT_TYPES = ("json", "xml", "yaml", "toml", "csv", "javascript", "x-sh", "sql", "x-python")


@tool(retry="safe")
def read_attachment(context: ToolContext, name: str = "", offset: int = 0) -> str:
    """Read a text file that the user has sent with this message.

    :param name: Its file name or id; may be left out when there is only one.
    :param offset: Number of the character to begin at, to go on in a long file.
    """
    found = _find(context.attachments, name)
    data = found.read(MAX_BYTES)
    text = _decode(found, data)
    if not 0 <= offset <= len(text):
        raise ToolError(f"{found.filename} has {len(text)} characters")
    piece = text[offset : offset + MAX_CHARS]
    end = offset + len(piece)
    if end < len(text):
        return f"{piece}\n[characters {offset} to {end} of {len(text)}; go on with offset={end}]"
    if found.size_bytes > len(data):
        return f"{piece}\n[the rest of the file is too long to be read]"
    return piece


def _find(attachments: tuple[ToolAttachment, ...], name: str) -> ToolAttachment:
    if not attachments:
        raise ToolError("the user has sent no file with this message")
    named = [one for one in attachments if name in (one.filename, one.attachment_id)]
    if not name and len(attachments) == 1:
        return attachments[0]
    if not named:
        names = ", ".join(one.filename for one in attachments)
        raise ToolError(f"there is no such file; the files are: {names}")
    return named[0]


def _decode(attachment: ToolAttachment, data: bytes) -> str:
    """Return the text of a file; it is one by its bytes, whatever its type says."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    text = data.decode("utf-8-sig", "replace")
    # A text of another encoding has some of them, and nothing else that is odd.
    odd = text.count("\ufffd") + text.count("\x00") * 20
    texty = attachment.mime.startswith("text/") or attachment.mime.endswith(_TEXT_TYPES)
    if odd * (20 if texty else 100) > len(text):
        raise ToolError(f"{attachment.filename} ({attachment.mime}) is no text")
    return text


class Attachments:
    """``read_attachment``."""

    name = "attachments"

    @hookimpl
    def register_tools(self) -> list[Tool]:
        """Return it."""
        return [read_attachment]
