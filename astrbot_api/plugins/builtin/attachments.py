"""``read_attachment``: the text of a file that the user sent."""

from __future__ import annotations

from ...agent.schema import tool
from ...agent.tools import Tool, ToolAttachment, ToolContext
from ...errors import ToolError
from ..hookspecs import hookimpl

#: Maximum length of one result, in characters.
MAX_CHARS = 16_000


@tool(retry="safe")
def read_attachment(context: ToolContext, name: str = "", offset: int = 0) -> str:
    """Read the text of a file that the user has sent with this message.

    Documents are read too: PDF, Word, Excel, PowerPoint, OpenDocument, EPUB, HTML, mail.

    :param name: File name or id. Can be omitted if there is only one file.
    :param offset: Number of the first character to read, to continue in a long file.
    """
    found = _find(context.attachments, name)
    text = found.read_text()
    if not 0 <= offset <= len(text):
        raise ToolError(f"{found.filename} has {len(text)} characters")
    piece = text[offset : offset + MAX_CHARS]
    end = offset + len(piece)
    if end < len(text):
        return f"{piece}\n[characters {offset} to {end} of {len(text)}; continue with offset={end}]"
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


class Attachments:
    """``read_attachment``."""

    name = "attachments"

    @hookimpl
    def register_tools(self) -> list[Tool]:
        return [read_attachment]
