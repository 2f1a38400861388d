"""Fields of forms and comments on the pages of a PDF, for jobs.

They are no part of a page's text. Source: fpdf_annot.h and fpdf_formfill.h of PDFium.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pypdfium2
from pypdfium2 import raw

#: Maximum number of annotations of a page.
_MAX_ANNOTATIONS = 2000

_MAX_LABEL_CHARS = 200

_SWITCHES = (raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON)
_WITH_VALUE = (
    *_SWITCHES, raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX,
    raw.FPDF_FORMFIELD_LISTBOX,
)  # fmt: skip

#: Annotations that are no comments: links, and windows of other annotations.
_NO_COMMENTS = (raw.FPDF_ANNOT_LINK, raw.FPDF_ANNOT_POPUP, raw.FPDF_ANNOT_WIDGET)


def read_fields(document: pypdfium2.PdfDocument, page: pypdfium2.PdfPage) -> str:
    """Return the fields of a page with their values, and its comments, as Markdown lists."""
    fields: list[str] = []
    comments: list[str] = []
    for one in _iter_annotations(page):
        kind = raw.FPDFAnnot_GetSubtype(one)
        if kind == raw.FPDF_ANNOT_WIDGET and document.formenv:
            fields += _read_field(document.formenv.raw, one)
        elif kind not in _NO_COMMENTS:
            text = _read(raw.FPDFAnnot_GetStringValue, one, b"Contents")
            author = _read(raw.FPDFAnnot_GetStringValue, one, b"T")
            if text:
                comments.append(f"- {author[:_MAX_LABEL_CHARS]}: {text}" if author else f"- {text}")
    parts = (("Form fields", fields), ("Comments", comments))
    return "\n\n".join("\n".join([f"{title}:", *lines]) for title, lines in parts if lines)


def _iter_annotations(page: pypdfium2.PdfPage) -> Iterator[Any]:
    for number in range(min(raw.FPDFPage_GetAnnotCount(page.raw), _MAX_ANNOTATIONS)):
        annotation = raw.FPDFPage_GetAnnot(page.raw, number)
        if annotation:
            try:
                yield annotation
            finally:
                raw.FPDFPage_CloseAnnot(annotation)


def _read_field(form: Any, annotation: Any) -> Iterator[str]:
    """Yield ``- name: value`` of a field that users fill in."""
    kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind not in _WITH_VALUE:
        return
    names = (raw.FPDFAnnot_GetFormFieldAlternateName, raw.FPDFAnnot_GetFormFieldName)
    name = next(filter(None, (_read(one, form, annotation) for one in names)), "")
    value = _read(raw.FPDFAnnot_GetFormFieldValue, form, annotation)
    if kind in _SWITCHES:
        is_on = bool(raw.FPDFAnnot_IsChecked(form, annotation))
        if kind == raw.FPDF_FORMFIELD_CHECKBOX:
            value = "checked" if is_on else "not checked"
        elif not is_on:
            return
    yield f"- {name[:_MAX_LABEL_CHARS]}: {value or '(empty)'}"


def _read(function: Callable[..., int], *arguments: Any) -> str:
    """Return the text that a function of PDFium writes to a buffer, on one line."""
    size = function(*arguments, None, 0)
    buffer = ctypes.create_string_buffer(size)
    function(*arguments, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size)
    return " ".join(buffer.raw.decode("utf-16-le", "replace").rstrip("\0").split())
