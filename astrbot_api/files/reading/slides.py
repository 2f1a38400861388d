"""Text extraction from PowerPoint presentations and Visio drawings, for jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree as ET

from .charts import read_charts
from .equations import replace_equations
from .mathml import write_power
from .package import Package, iter_local, iter_relations, list_targets, local_name, read_attribute
from .tables import to_markdown_table, write_link


def read_pptx(package: Package) -> str:
    """Return the text of a presentation's slides, with tables and notes."""
    parts = []
    slides = [name for name in package.names if re.fullmatch(r"ppt/slides/slide\d+\.xml", name)]
    order = _slide_order(package)
    slides.sort(key=lambda name: (order.get(name, 10**6), int(re.sub(r"\D", "", name))))
    for number, name in enumerate(slides, 1):
        slide = package.parse(name)
        replace_equations(slide, "r", "t")
        _mark_runs(slide, {key: target for key, (_, target) in iter_relations(package, name)})
        hidden = " (hidden)" if slide.get("show") in ("0", "false") else ""
        lines = [f"## Slide {number}{hidden}", *_iter_slide(slide)]
        lines += read_charts(package, name)
        for target in list_targets(package, name, "notesSlide"):
            notes = " ".join(_iter_slide(package.parse(target))).strip()
            if notes:
                lines.append(f"Notes: {notes}")
        for target in list_targets(package, name, "comments"):
            lines += _iter_comments(package.parse(target))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def read_vsdx(package: Package) -> str:
    """Return the texts of the shapes on each page of a Visio drawing. Source: MS-VSDX, 2.2.1."""
    main = "visio/pages/pages.xml"
    targets = dict(iter_relations(package, main))
    parts = []
    for page in iter_local(package.parse(main), "Page"):
        links = (read_attribute(one, "id") for one in iter_local(page, "Rel"))
        roots = [package.parse(targets[one][1]) for one in links if one in targets]
        texts = ("".join(one.itertext()) for root in roots for one in iter_local(root, "Text"))
        lines = (f"- {' '.join(one.split())}" for one in texts if one.strip())
        parts.append("\n".join((f"## {page.get('Name', '')}", *lines)))
    return "\n\n".join(parts)


def _iter_comments(root: ET.Element) -> Iterator[str]:
    """Yield the comments of a slide, in the form of PowerPoint 2007 or of its successors."""
    for one in (one for name in ("cm", "reply") for one in iter_local(root, name)):
        own = [part for part in one if local_name(part) in ("text", "txBody")]
        text = " ".join(" ".join("".join(part.itertext()) for part in own).split())
        yield f"Comment: {text}"


def _mark_runs(slide: ET.Element, targets: Mapping[str, str]) -> None:
    """Mark powers and links in the texts of a slide.

    :param targets: Relationship of the slide -> its target.
    """
    for run in iter_local(slide, "r"):
        is_raised = any(one.get("baseline", "-") > "0" for one in iter_local(run, "rPr"))
        link = next(iter_local(run, "hlinkClick"), None)
        url = "" if link is None else targets.get(read_attribute(link, "id"), "")
        for text in iter_local(run, "t") if is_raised or url else ():
            said = text.text or ""
            text.text = write_link(write_power(said) if is_raised else said, url)


def _slide_order(package: Package) -> dict[str, int]:
    """Return the position of each slide, which its part's name does not show."""
    main = "ppt/presentation.xml"
    targets = dict(iter_relations(package, main))
    order = {}
    for number, slide in enumerate(iter_local(package.parse(main), "sldId")):
        key = read_attribute(slide, "id")
        if key in targets:
            order[targets[key][1]] = number
    return order


def _iter_slide(root: ET.Element) -> Iterator[str]:
    """Yield the paragraphs, tables and image descriptions of a slide, without its number."""
    skipped = {id(one) for table in iter_local(root, "tbl") for one in table.iter()}
    for shape in iter_local(root, "sp"):
        place = next(iter_local(shape, "ph"), None)
        if place is not None and place.get("type") in ("sldNum", "dt", "ftr", "hdr"):
            skipped |= {id(one) for one in shape.iter()}
    for element in root.iter():
        local = local_name(element)
        if local == "tbl":
            rows = [
                [_text_of(cell) for cell in iter_local(row, "tc")]
                for row in iter_local(element, "tr")
            ]
            yield to_markdown_table(rows)
        elif local == "pic":
            described = next((one.get("descr") for one in iter_local(element, "cNvPr")), None)
            if described:
                yield f"[picture: {' '.join(described.split())}]"
        elif local == "p" and id(element) not in skipped:
            text = _text_of(element, "\n")
            if text:
                yield text


def _text_of(element: ET.Element, line_end: str = " ") -> str:
    """Return the text of a DrawingML element."""
    parts = (one for one in element.iter() if local_name(one) in ("t", "br"))
    return "".join(line_end if local_name(one) == "br" else one.text or "" for one in parts).strip()
