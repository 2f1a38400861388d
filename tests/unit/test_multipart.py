"""Forms with a file, as another parser reads them."""

from __future__ import annotations

from contextlib import closing
from io import BytesIO

import pytest
from werkzeug.formparser import parse_form_data

from astrbot_api.runtime.multipart import FileForm


@pytest.mark.parametrize(
    ("name", "read"),
    [("a.txt", "a.txt"), ("图 é.png", "图 é.png"), ('a"b\r\nX: y', 'a"b%0D%0AX: y')],
)
def test_a_form_is_read_with_its_fields_and_its_file(name: str, read: str) -> None:
    data = b"\r\n--\x00" * 3
    form = FileForm(
        {"chat_id": "-1", "caption": "é"}, "document",
        filename=name, mime="text/plain", size_bytes=len(data),
        iter_bytes=lambda: [data[:5], data[5:]],
    )  # fmt: skip
    for _ in range(2):  # a request may be sent again on a new connection
        body = b"".join(form)
        assert form.headers["Content-Length"] == str(len(body))
        environ = {
            "wsgi.input": BytesIO(body),
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": form.headers["Content-Type"],
            "CONTENT_LENGTH": form.headers["Content-Length"],
        }
        _, fields, files = parse_form_data(environ)
        assert fields.to_dict() == {"chat_id": "-1", "caption": "é"}
        (file,) = files.values()
        with closing(file):
            assert (file.name, file.mimetype, file.read()) == ("document", "text/plain", data)
            assert file.filename == read
