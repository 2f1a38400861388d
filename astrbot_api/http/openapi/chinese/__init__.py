"""The documentation in Chinese, by the paragraphs of the English texts.

``{}`` in a key stands for a number or for words between backticks, as
:func:`~astrbot_api.http.openapi.translate.find_key` has it; the translation has
as many, in the same order or numbered (``{1}`` is the second).
"""

from __future__ import annotations

from .chat import CHAT
from .errors import ERRORS
from .files import FILES
from .general import GENERAL
from .im import IM
from .keys import KEYS
from .openai import OPENAI
from .remedies import REMEDIES
from .resources import RESOURCES
from .runs import RUNS
from .sessions import SESSIONS

#: One module a part of the API; a key is in one of them only.
PARTS: tuple[dict[str, str], ...] = (
    GENERAL,
    ERRORS,
    REMEDIES,
    CHAT,
    FILES,
    KEYS,
    OPENAI,
    RESOURCES,
    RUNS,
    SESSIONS,
    IM,
)

CHINESE = {english: chinese for part in PARTS for english, chinese in part.items()}
