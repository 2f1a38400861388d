"""``@tool``: make a tool from a typed, documented function.

The JSON schema comes from the signature, and descriptions come from the Sphinx docstring. A
signature that a schema cannot express is refused when the function is decorated, not when a model
calls it.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict, overload

import msgspec
import orjson
from docstring_parser import Docstring, DocstringStyle, parse

from ..errors import ToolError
from .tools import Retry, Tool, ToolContext

#: Only these types can be alternatives, since the value shows which one is meant.
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}

#: Default of a required parameter.
_REQUIRED = inspect.Parameter.empty


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *,
    name: str = "",
    timeout_s: float | None = None,
    by_name_only: bool = False,
    retry: Retry = "never",
    needs_approval: bool = False,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    timeout_s: float | None = None,
    by_name_only: bool = False,
    retry: Retry = "never",
    needs_approval: bool = False,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a :class:`~astrbot_api.Tool` from a function.

    ::

        @tool
        def roll_dice(sides: int = 6, count: int = 1) -> str:
            \"\"\"Roll dice and return the results.

            :param sides: Sides of each die.
            :param count: How many dice.
            \"\"\"

    A parameter annotated :class:`~astrbot_api.ToolContext` gets the context of the call and is
    hidden from the model. To use a method, decorate the bound method: ``tool(self.roll_dice)``.

    :param name: Name of the tool; by default the function's.
    :param timeout_s: Time limit of a call in seconds, or None for the config's.
    :param by_name_only: Whether a config must allow it by its whole name.
    :param retry: ``safe`` if a call may be repeated, as for reading: a call whose worker died
        before its result was stored is made again. ``never``: the model learns that the outcome is
        unknown.
    :param needs_approval: Whether a person must approve each call, for example of tools that pay,
        delete or send.
    :raises TypeError: for a function that cannot be a tool, with the reason.
    """

    def decorate(function: Callable[..., Any]) -> Tool:
        return _make_tool(
            function, name or function.__name__,
            timeout_s=timeout_s, by_name_only=by_name_only, retry=retry,
            needs_approval=needs_approval,
        )  # fmt: skip

    return decorate if function is None else decorate(function)


def _make_tool(function: Callable[..., Any], name: str, **options: Any) -> Tool:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"tool {name}: an async function cannot be a tool; "
            "write a plain one that calls run_async"
        )
    if inspect.isgeneratorfunction(function):
        raise TypeError(
            f"tool {name}: a generator cannot be a tool; return the result, and call "
            "context.report_progress meanwhile"
        )
    doc = _read_docstring(function)
    if not doc.description:
        raise TypeError(f"tool {name}: a docstring is missing; the model needs its text")
    try:
        hints, defaults = _read_signature(function, doc)
        contexts = [key for key in defaults if hints[key] in (ToolContext, ToolContext | None)]
        given = {key: value for key, value in defaults.items() if key not in contexts}
        parameters = _read_object(hints, given, _read_descriptions(function, doc), "parameter ")
        kind: Any = TypedDict("Arguments", {key: hints[key] for key in given}, total=False)  # type: ignore[misc]
        msgspec.convert({}, kind)  # raises now if it cannot convert the type
    except TypeError as error:
        raise TypeError(f"tool {name}: {error}") from None

    def call(arguments: Mapping[str, Any], context: ToolContext) -> Any:
        try:
            values = msgspec.convert(_with_integers(arguments), kind)
        except msgspec.ValidationError as error:
            raise ToolError(f"the arguments do not fit: {error}") from None
        return function(**_with_defaults(values), **dict.fromkeys(contexts, context))

    return Tool(name, doc.description, call, parameters, **options)


def _with_integers(value: Any) -> Any:
    """Return JSON with 2 for 2.0, an integer in JSON Schema but not in msgspec."""
    if isinstance(value, Mapping):
        return {key: _with_integers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_integers(one) for one in value]
    exact = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if exact else value


def _with_defaults(value: Any) -> Any:
    """Store the defaults of dataclasses in their instances, where ``vars`` and orjson read them.

    msgspec leaves them in the class.
    """
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            _with_defaults(one)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            object.__setattr__(value, field.name, _with_defaults(getattr(value, field.name)))
    return value


def _read_docstring(documented: Any) -> Docstring:
    return parse(documented.__doc__ or "", style=DocstringStyle.REST)


def _read_descriptions(annotated: Any, doc: Docstring) -> dict[str, str]:
    """Return the descriptions of parameters, of ``Annotated[str, "text"]`` or the docstring."""
    hints = _read_hints(annotated, include_extras=True)
    notes = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    texts = [(name, one) for name, some in notes.items() for one in some if isinstance(one, str)]
    texts += [(one.arg_name, one.description or "") for one in doc.params]
    return {name: " ".join(text.split()) for name, text in texts}


def _read_hints(annotated: Any, *, include_extras: bool = False) -> dict[str, Any]:
    try:
        return typing.get_type_hints(annotated, include_extras=include_extras)
    except NameError as error:
        raise TypeError(f"{error}; annotations must be importable at module level") from None


def _read_signature(
    function: Callable[..., Any], doc: Docstring
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the annotations and defaults of a function's parameters."""
    hints = _read_hints(function)
    parameters = inspect.signature(function).parameters
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"parameter *{name}: a tool's parameters must be named")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"parameter {name}: it must not be positional only")
        if name == "self" and name not in hints:
            raise TypeError("of a method decorate the bound one: tool(self.method)")
        if name not in hints:
            raise TypeError(f"parameter {name} has no annotation")
    for described in doc.params:
        if described.arg_name not in parameters:
            raise TypeError(f"the docstring describes {described.arg_name}, no parameter")
    for name, parameter in parameters.items():
        if parameter.default is None:  # the schema offers it to models, which then send null
            hints[name] = hints[name] | None
    return hints, {name: one.default for name, one in parameters.items()}


def _read_object(
    hints: Mapping[str, Any],
    defaults: Mapping[str, Any],
    described: Mapping[str, str],
    where: str,
    outer: tuple[Any, ...] = (),
) -> dict[str, Any]:
    """Return the schema of a function's parameters or of a class's fields.

    :param defaults: Defaults by name, or :data:`_REQUIRED`.
    :param described: Descriptions by name.
    :param where: Prefix of the name in error messages.
    :param outer: Enclosing classes, to detect recursion.
    """
    properties = {name: _read_type(hints[name], where + name, outer) for name in defaults}
    for name, schema in properties.items():
        schema |= _read_default(defaults[name])
        if described.get(name):
            schema["description"] = described[name]
    required = [name for name, default in defaults.items() if default is _REQUIRED]
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _read_default(value: Any) -> dict[str, Any]:
    """Return the schema's ``default`` if JSON can express the value."""
    try:
        return {"default": orjson.loads(orjson.dumps(value))}
    except TypeError:
        return {}


def _read_type(hint: Any, where: str, outer: tuple[Any, ...]) -> dict[str, Any]:
    """Return the schema of an annotation; see :func:`_read_object`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if hint is Any:
        return {}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        real = [one for one in arguments if one is not types.NoneType]
        if len(real) > 1 and not all(one in _SCALARS for one in real):
            raise TypeError(f"{where}: only str, int, float and bool can be alternatives")
        null = [{"type": "null"}] if len(real) < len(arguments) else []
        return {"anyOf": [_read_type(one, where, outer) for one in real] + null}
    if (origin or hint) is list:
        items = [_read_type(one, where, outer) for one in arguments]
        return {"type": "array", "items": items[0]} if items else {"type": "array"}
    if (origin or hint) is dict:
        if arguments and arguments[0] is not str:
            raise TypeError(f"{where}: the keys of a dict must be str, as in JSON")
        values = [_read_type(one, where, outer) for one in arguments[1:]]
        return {"type": "object", **({"additionalProperties": values[0]} if values else {})}
    return _read_class(hint, where, outer)


def _read_class(hint: Any, where: str, outer: tuple[Any, ...]) -> dict[str, Any]:
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return {"enum": [one.value for one in hint]}
    defaults: dict[str, Any] | None = None
    if typing.is_typeddict(hint):
        # It resolves NotRequired in string annotations (PEP 563), and sorts the names.
        fields: Any = msgspec.inspect.type_info(hint)
        required = {one.name for one in fields.fields if one.required}
        defaults = {key: _REQUIRED if key in required else ... for key in _read_hints(hint)}
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
        # A default of None may not fit the annotation, so models must leave it out.
        defaults = {
            name: ... if one.default is None else one.default
            for name, one in inspect.signature(hint).parameters.items()
        }
    if defaults is None or hint in outer:
        name = getattr(hint, "__name__", str(hint))
        raise TypeError(
            f"{where}: {name} has no JSON schema here; use str, int, float, bool, list, dict, "
            "Literal, Enum, a dataclass or TypedDict that does not contain itself, "
            "or any of these | None"
        )
    place = f"{where}: {hint.__name__}."
    described = _read_descriptions(hint, _read_docstring(hint))
    return _read_object(_read_hints(hint), defaults, described, place, (*outer, hint))
