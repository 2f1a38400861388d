"""``@tool``: a typed, documented function becomes a tool.

The JSON schema comes from the signature, the descriptions from the Sphinx
docstring. What no schema can say is refused where the function is decorated,
not when a model calls it.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

import orjson
from docstring_parser import Docstring, DocstringStyle, parse

from .tools import Tool, ToolContext

#: What an annotation is: the schema of its JSON, and what makes the value of it.
_Kind = tuple[dict[str, Any], Callable[[Any], Any]]

_SCALARS: dict[Any, tuple[str, Callable[[Any], Any]]] = {
    str: ("string", str),
    int: ("integer", int),  # JSON schema takes 2.0 for an integer
    float: ("number", float),
    bool: ("boolean", bool),
}


class _Unsupported(Exception):
    """An annotation that has no schema; the text says which."""


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *, name: str = "", timeout_s: float | None = None, by_name_only: bool = False
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    timeout_s: float | None = None,
    by_name_only: bool = False,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a :class:`~astrbot_api.Tool` of a function.

    ::

        @tool
        def roll_dice(sides: int = 6, count: int = 1) -> str:
            \"\"\"Roll dice and tell what they show.

            :param sides: Sides of each die.
            :param count: How many dice.
            \"\"\"

    A parameter annotated :class:`~astrbot_api.ToolContext` is given the
    context of the call and is hidden from the model. Of a method decorate
    the bound one: ``tool(self.roll_dice)``.

    :param name: Name of the tool; by default the function's.
    :param timeout_s: How long a call may take; None: as the config says.
    :param by_name_only: Offered only where a config allows it by name.
    :raises TypeError: for a function that cannot be a tool; the text says why.
    """

    def decorate(function: Callable[..., Any]) -> Tool:
        return _make_tool(function, name or function.__name__, timeout_s, by_name_only)

    return decorate if function is None else decorate(function)


def _make_tool(
    function: Callable[..., Any], name: str, timeout_s: float | None, by_name_only: bool
) -> Tool:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"tool {name}: an async function cannot be a tool; write a plain one")
    doc = _read_docstring(function)
    if not doc.description:
        raise TypeError(f"tool {name}: a docstring is missing; the model is told what it says")
    try:
        parameters, converters, contexts = _read_signature(function, doc)
    except _Unsupported as error:
        raise TypeError(f"tool {name}: {error}") from None

    def call(arguments: Mapping[str, Any], context: ToolContext) -> Any:
        given = {key: converters[key](value) for key, value in arguments.items()}
        return function(**given, **dict.fromkeys(contexts, context))

    return Tool(name, doc.description, call, parameters, timeout_s, by_name_only)


def _read_docstring(documented: Any) -> Docstring:
    return parse(documented.__doc__ or "", style=DocstringStyle.REST)


def _read_signature(
    function: Callable[..., Any], doc: Docstring
) -> tuple[dict[str, Any], dict[str, Callable[[Any], Any]], list[str]]:
    """Return the parameters' schema, their converters, and the context's names."""
    hints = _read_hints(function)
    described = _descriptions(doc)
    properties: dict[str, Any] = {}
    required: list[str] = []
    converters: dict[str, Callable[[Any], Any]] = {}
    contexts: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        hint = _check_parameter(parameter, hints)
        if hint is ToolContext:
            contexts.append(parameter.name)
            described.pop(parameter.name, None)
            continue
        schema, converters[parameter.name] = _read_type(hint, f"parameter {parameter.name}")
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
        else:
            schema |= _default(parameter.default)
        properties[parameter.name] = schema | _description(described, parameter.name)
    if described:
        raise _Unsupported(f"the docstring describes {next(iter(described))}, no parameter")
    return _object(properties, required), converters, contexts


def _check_parameter(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    """Return a parameter's annotation, or refuse the parameter."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise _Unsupported(f"parameter *{parameter.name}: a tool's parameters must be named")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise _Unsupported(f"parameter {parameter.name}: it must not be positional only")
    if parameter.name == "self" and parameter.name not in hints:
        raise _Unsupported("of a method decorate the bound one: tool(self.method)")
    if parameter.name not in hints:
        raise _Unsupported(f"parameter {parameter.name} has no annotation")
    return hints[parameter.name]


def _read_hints(annotated: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(annotated)
    except NameError as error:
        raise _Unsupported(f"{error}; annotations must be importable at module level") from None


def _descriptions(doc: Docstring) -> dict[str, str]:
    return {one.arg_name: " ".join((one.description or "").split()) for one in doc.params}


def _description(described: dict[str, str], name: str) -> dict[str, str]:
    text = described.pop(name, "")
    return {"description": text} if text else {}


def _default(value: Any) -> dict[str, Any]:
    """Return the schema's ``default``, where JSON has a word for the value."""
    try:
        return {"default": orjson.loads(orjson.dumps(value))}
    except TypeError:
        return {}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema | {"additionalProperties": False}


def _read_type(hint: Any, where: str, outer: tuple[Any, ...] = ()) -> _Kind:
    """Return what an annotation means in JSON.

    :param where: Names the place, for the refusal.
    :param outer: The classes that it stands in: no schema is endless.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SCALARS:
        name, convert = _SCALARS[hint]
        return {"type": name}, convert
    if hint is Any:
        return {}, _same
    if origin is Literal:
        return {"enum": list(arguments)}, _same
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, where, outer)
    if (origin or hint) is list:
        return _read_list(arguments, where, outer)
    if (origin or hint) is dict:
        return _read_dict(arguments, where, outer)
    if inspect.isclass(hint) and hint not in outer:
        found = _read_class(hint, where, outer)
        if found is not None:
            return found
    name = getattr(hint, "__name__", str(hint))
    raise _Unsupported(
        f"{where}: {name} has no JSON schema here; use str, int, float, bool, list, dict, "
        "Literal, Enum, a dataclass or TypedDict that does not hold itself, or any of these | None"
    )


def _same(value: Any) -> Any:
    return value


def _read_union(arguments: tuple[Any, ...], where: str, outer: tuple[Any, ...]) -> _Kind:
    real = [one for one in arguments if one is not types.NoneType]
    kinds = [_read_type(one, where, outer) for one in real]
    schemas = [schema for schema, _ in kinds]
    if len(real) < len(arguments):
        schemas.append({"type": "null"})
    if len(kinds) == 1:
        convert = kinds[0][1]
        return {"anyOf": schemas}, lambda value: None if value is None else convert(value)
    if not all(one in _SCALARS for one in real):
        raise _Unsupported(f"{where}: only str, int, float and bool can be alternatives")
    return {"anyOf": schemas}, _same


def _read_list(arguments: tuple[Any, ...], where: str, outer: tuple[Any, ...]) -> _Kind:
    if not arguments:
        return {"type": "array"}, _same
    schema, convert = _read_type(arguments[0], where, outer)
    return {"type": "array", "items": schema}, lambda values: [convert(one) for one in values]


def _read_dict(arguments: tuple[Any, ...], where: str, outer: tuple[Any, ...]) -> _Kind:
    if not arguments:
        return {"type": "object"}, _same
    if arguments[0] is not str:
        raise _Unsupported(f"{where}: the keys of a dict must be str, as in JSON")
    schema, convert = _read_type(arguments[1], where, outer)
    return (
        {"type": "object", "additionalProperties": schema},
        lambda values: {key: convert(value) for key, value in values.items()},
    )


def _read_class(hint: Any, where: str, outer: tuple[Any, ...]) -> _Kind | None:
    if issubclass(hint, enum.Enum):
        values = [one.value for one in hint]
        if not all(isinstance(one, (str, int)) for one in values):
            raise _Unsupported(f"{where}: the values of {hint.__name__} must be str or int")
        return {"enum": values}, hint
    if dataclasses.is_dataclass(hint):
        make: Any = hint
        items = [one for one in dataclasses.fields(hint) if one.init]
        missing = dataclasses.MISSING
        required = [
            one.name for one in items if one.default is missing and one.default_factory is missing
        ]
        schema, convert = _read_items(hint, [one.name for one in items], required, where, outer)
        for one in items:
            if one.default is not missing:
                schema["properties"][one.name] |= _default(one.default)
        return schema, lambda value: make(**convert(value))
    if typing.is_typeddict(hint):
        names = list(hint.__annotations__)
        return _read_items(hint, names, _required_keys(hint, names), where, outer)
    return None


def _required_keys(hint: Any, names: list[str]) -> list[str]:
    # Where annotations are texts (PEP 563) the class itself does not know
    # which of them say NotRequired.
    marks = {
        name: typing.get_origin(one)
        for name, one in typing.get_type_hints(hint, include_extras=True).items()
    }
    return [
        name
        for name in names
        if marks[name] is typing.Required
        or (name in hint.__required_keys__ and marks[name] is not typing.NotRequired)
    ]


def _read_items(
    hint: Any, names: list[str], required: list[str], where: str, outer: tuple[Any, ...]
) -> _Kind:
    """Return the object that a dataclass or a TypedDict is in JSON."""
    hints = _read_hints(hint)
    described = _descriptions(_read_docstring(hint))
    kinds = {
        name: _read_type(hints[name], f"{where}: {hint.__name__}.{name}", (*outer, hint))
        for name in names
    }
    properties = {
        name: schema | _description(described, name) for name, (schema, _) in kinds.items()
    }
    return _object(properties, required), lambda values: {
        key: kinds[key][1](value) for key, value in values.items()
    }
