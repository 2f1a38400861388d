"""What is not sent: it would meet gunicorn, and never the application."""

from __future__ import annotations

from typing import Any

import schemathesis

#: gunicorn answers a longer request line by itself, in HTML (``limit_request_line``).
_MAX_LINE_BYTES = 4000


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Keep only requests whose line gunicorn takes."""
    from urllib.parse import quote, urlencode

    path = sum(len(quote(str(one))) for one in (case.path_parameters or {}).values())
    query = len(urlencode(case.query or {}, doseq=True, errors="replace"))
    return path + query + len(case.path) < _MAX_LINE_BYTES
