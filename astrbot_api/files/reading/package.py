"""ZIP-based documents: their parts, relationships and XML. Also the lists of archives."""

from __future__ import annotations

import posixpath
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import BinaryIO
from xml.etree import ElementTree as ET

from ...errors import Unreadable
from ...runtime.decoding import decode

#: Maximum size of one uncompressed part, in bytes.
_MAX_PART_BYTES = 64 * 2**20

#: Maximum total size of the uncompressed parts according to the ZIP directory, in bytes.
_MAX_UNPACKED_BYTES = 512 * 2**20

_MAX_LISTED = 200

#: Maximum number of files and folders of a tar archive that are counted.
_MAX_MEMBERS = 20_000

#: Flag of a file in a ZIP whose name is in UTF-8. zipfile decodes other names as cp437, while
#: Windows writes them in the encoding of its language.
_UTF8_NAME = 0x800

#: Part with a picture of an Office, OpenDocument or OFD file, and the size of pictures that count.
_PICTURE = re.compile(
    r"((word|ppt|xl)/media|Pictures|Doc_\d+/Res)/[^/]+\.(png|jpe?g|gif|bmp|tiff?|webp)",
    re.IGNORECASE,
)
_MIN_PICTURE_BYTES = 2048

#: An element with its older forms, or notices for older programs. Source: ECMA-376, part 3, 7.5.
_ALTERNATIVES = "{http://schemas.openxmlformats.org/markup-compatibility/2006}AlternateContent"


class Package:
    """A ZIP file with size limits.

    :raises Unreadable: when the uncompressed size in its directory exceeds the limit.
    """

    def __init__(self, source: BinaryIO) -> None:
        self.source = source
        self._zip = zipfile.ZipFile(source)
        self.names = set(self._zip.namelist())
        if sum(one.file_size for one in self._zip.infolist()) > _MAX_UNPACKED_BYTES:
            raise Unreadable(f"it unpacks to more than {_MAX_UNPACKED_BYTES // 2**20} MiB")

    def read(self, name: str, *, may_cut: bool = False) -> bytes:
        """Return a part.

        :param may_cut: Whether to return the beginning of a part that is too large.
        :raises Unreadable: when the part is missing, too large, encrypted or oddly compressed.
        """
        try:
            with self._zip.open(name) as file:
                data = file.read(_MAX_PART_BYTES + 1)
        except KeyError as error:
            raise Unreadable("it is damaged: a part is missing") from error
        except NotImplementedError as error:
            raise Unreadable("its compression is not supported; ask for it unpacked") from error
        except RuntimeError as error:  # encrypted
            raise Unreadable("it is protected by a password; ask for it without one") from error
        if may_cut:
            return data[:_MAX_PART_BYTES]
        if len(data) > _MAX_PART_BYTES:
            raise Unreadable(f"a part of it unpacks to more than {_MAX_PART_BYTES // 2**20} MiB")
        return data

    def measure(self, name: str) -> int:
        """Return the size of a part according to the ZIP directory, in bytes."""
        return self._zip.getinfo(name).file_size

    def list_pictures(self) -> list[str]:
        """Return the parts with pictures in the order of their numbers, without small icons."""
        found = [
            one.filename
            for one in self._zip.infolist()
            if _PICTURE.fullmatch(one.filename) and one.file_size >= _MIN_PICTURE_BYTES
        ]
        return sorted(found, key=lambda name: (int("0" + re.sub(r"\D", "", name)[:9]), name))

    def parse(self, name: str) -> ET.Element:
        """Parse an XML part and return its root, without older forms of new elements."""
        root = ET.fromstring(self.read(name))
        for one in root.iter(_ALTERNATIVES):
            one[1:] = []
        return root

    def describe(self) -> str:
        """Return a list of the files, one per line."""
        files = []
        for one in self._zip.infolist():
            name = one.filename
            has_second_name = name != one.orig_filename  # which is in UTF-8
            if not has_second_name and not one.flag_bits & _UTF8_NAME:
                name = decode(name.encode("cp437"))[0]
            files += [] if one.is_dir() else [(name, one.file_size)]
        return _list_files(files)


def list_tar(source: BinaryIO, notes: list[str]) -> str:
    """Return a list of the files of a tar archive, one per line."""
    files = []
    with suppress(tarfile.ReadError), tarfile.open(fileobj=source, mode="r:") as archive:
        for one in islice(archive, _MAX_MEMBERS):
            name = decode(one.name.encode("utf-8", "surrogateescape"))[0]
            files += [(name, one.size)] if one.isfile() else []
        if archive.next() is not None:
            notes.append(f"Only its first {_MAX_MEMBERS} files and folders were counted.")
    return _list_files(files)


def _list_files(files: list[tuple[str, int]]) -> str:
    lines = [f"An archive with {len(files)} files, which are not read:"]
    lines += [f"- {name}, {size} bytes" for name, size in files[:_MAX_LISTED]]
    if len(files) > _MAX_LISTED:
        lines.append(f"- and {len(files) - _MAX_LISTED} more")
    return "\n".join(lines)


def iter_relations(package: Package, name: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the id, type and target of each relationship of a part."""
    folder, base = posixpath.split(name)
    relations = f"{folder}/_rels/{base}.rels"
    if relations in package.names:
        for one in iter_local(package.parse(relations), "Relationship"):
            target = one.get("Target", "")
            if one.get("TargetMode") != "External":
                path = target[1:] if target.startswith("/") else posixpath.join(folder, target)
                target = posixpath.normpath(path)
            yield one.get("Id", ""), (one.get("Type", "").rpartition("/")[2], target)


def list_targets(package: Package, name: str, kind: str) -> list[str]:
    """Return the existing parts to which a part has relationships of a type."""
    found = [target for _, (one, target) in iter_relations(package, name) if one == kind]
    return [target for target in found if target in package.names]


def local_name(element: ET.Element) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def read_attribute(element: ET.Element, local: str) -> str:
    """Return the attribute with a namespace that has a local name, or an empty string."""
    return next((value for name, value in element.items() if name.endswith("}" + local)), "")


def to_int(text: str) -> int:
    """Return a whole number of at most five digits. Others count as 0."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def iter_local(element: ET.Element, local: str) -> Iterator[ET.Element]:
    """Yield the element and its descendants that have a local name."""
    return (one for one in element.iter() if local_name(one) == local)
