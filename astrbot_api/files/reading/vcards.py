"""Text of contacts (vcf), for jobs. Source: vCard 2.1 and RFC 6350."""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator

from ...runtime.decoding import decode

#: Properties with a picture, a sound or a key, perhaps after a group.
_BINARY = re.compile(r"(item\d{1,4}\.)?(PHOTO|LOGO|SOUND|KEY)\b", re.IGNORECASE)
#: The end of a line that continues in the next one, perhaps within a character of several bytes.
#: Calendars have such lines, too.
FOLD = re.compile(rb"(?<![=\r])\r?\n[ \t]")
_QUOTED = ";ENCODING=QUOTED-PRINTABLE"
_CHARSET = re.compile(r";CHARSET=([\w-]{1,40})", re.IGNORECASE)


def read_vcards(text: str) -> str:
    """Return contacts without pictures, with the values readable that old phones encode."""
    return "\n".join(_iter_lines(text.splitlines()))


def _iter_lines(lines: list[str]) -> Iterator[str]:
    at = 0
    while at < len(lines):
        name, colon, value = lines[at].partition(":")
        at += 1
        if _BINARY.match(name):
            yield f"{name}{colon}…"
        elif _QUOTED in name.upper():
            values = [value]
            while values[-1].endswith("=") and at < len(lines):  # the value continues
                values[-1] = values[-1][:-1]
                values.append(lines[at])
                at += 1
            charset = _CHARSET.search(name)
            data = quopri.decodestring("".join(values).encode())
            shown, _ = decode(data, charset[1] if charset else "")
            name = re.sub(re.escape(_QUOTED), "", _CHARSET.sub("", name), flags=re.IGNORECASE)
            yield f"{name}{colon}{shown}"
        else:
            yield f"{name}{colon}{value}"
