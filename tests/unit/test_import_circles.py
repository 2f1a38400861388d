"""No module of the package imports itself indirectly, at run time or for types."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent.parent / "astrbot_api"


def list_modules(package: Path) -> dict[str, Path]:
    """Return every module below a package by its dotted name."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def iter_imports(name: str, path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Yield all modules that a module imports, also in functions and for types."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{base}".rstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                if whole in modules:
                    yield whole
                elif base in modules:
                    yield base


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one import cycle in order, or an empty list."""
    done: set[str] = set()
    for start, first in graph.items():
        if start in done:
            continue
        path = [start]
        stack = [(start, iter(sorted(first)))]
        while stack:
            node, targets = stack[-1]
            target = next(targets, None)
            if target is None:
                stack.pop()
                path.pop()
                done.add(node)
            elif target in path:
                return [*path[path.index(target) :], target]
            elif target not in done:
                path.append(target)
                stack.append((target, iter(sorted(graph[target]))))
    return []


def test_no_module_imports_itself_by_a_detour() -> None:
    modules = list_modules(PACKAGE)
    graph = {
        name: set(iter_imports(name, path, modules)) - {name} for name, path in modules.items()
    }
    assert len(graph) > 100
    assert find_circle(graph) == []


def test_a_circle_is_found_with_those_who_are_in_it() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"d", "b"}, "d": set[str]()}
    assert find_circle(graph) == ["b", "c", "b"]
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_an_import_inside_a_function_or_for_types_counts(tmp_path: Path) -> None:
    package = tmp_path / "house"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "room" / "__init__.py").write_text("")
    (package / "room" / "one.py").write_text(
        "if TYPE_CHECKING:\n    from .two import Two\ndef f():\n    from .. import three\n"
    )
    (package / "room" / "two.py").write_text("")
    (package / "three.py").write_text("")
    modules = list_modules(package)
    assert set(iter_imports("house.room.one", modules["house.room.one"], modules)) == {
        "house.room.two",
        "house.three",
    }
