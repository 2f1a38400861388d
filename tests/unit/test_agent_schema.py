"""``@tool`` reads the schema from the signature and descriptions from the docstring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from astrbot_api import Cancellation, ToolContext, ToolError, tool


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """A point.

    :param x: To the right.
    """

    x: float
    y: float = 0.5


class Place(TypedDict):
    street: NotRequired[str]
    city: str


@dataclass
class Endless:
    inner: list[Endless]


@dataclass
class Unknown:
    inner: NoSuchThing  # type: ignore[name-defined]  # noqa: F821


@dataclass
class Note:
    text: str
    title: str = None  # type: ignore[assignment]


CONTEXT = ToolContext("alice", "s", "default", Cancellation())


def schema_of(hint: Any, default: Any = ...) -> Any:
    """Return the schema of one parameter with this annotation."""

    def function(value):
        """Do it."""

    function.__annotations__ = {"value": hint}
    if default is not ...:
        function.__defaults__ = (default,)
    return tool(function).parameters["properties"]["value"]


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (list, {"type": "array"}),
        (dict, {"type": "object"}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Colour, {"enum": ["red", "blue"]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (Any, {}),
    ],
)
def test_each_annotation_has_its_schema(hint: Any, schema: Any) -> None:
    assert schema_of(hint) == schema


def test_a_dataclass_is_an_object_with_its_descriptions_and_defaults() -> None:
    assert schema_of(Point) == {
        "type": "object",
        "properties": {
            "x": {"type": "number", "description": "To the right."},
            "y": {"type": "number", "default": 0.5},
        },
        "required": ["x"],
        "additionalProperties": False,
    }


def test_a_typed_dict_is_an_object() -> None:
    schema = schema_of(Place)
    assert schema["properties"] == {"street": {"type": "string"}, "city": {"type": "string"}}
    assert list(schema["properties"]) == ["street", "city"], "in the author's order"
    assert schema["required"] == ["city"]


def test_a_parameter_with_a_default_may_be_left_out() -> None:
    assert schema_of(int, 3) == {"type": "integer", "default": 3}
    assert schema_of(Colour, Colour.RED) == {"enum": ["red", "blue"], "default": "red"}


def test_a_parameter_whose_default_is_none_may_be_null() -> None:
    assert schema_of(str, None) == {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "default": None,
    }
    assert schema_of(Any, None)["default"] is None

    def find(city: str, context: ToolContext | None = None) -> str:
        """Find it."""
        assert context is CONTEXT
        return repr(city)

    find.__defaults__ = (None, None)  # as people write it, without "| None"
    made = tool(find)
    assert made.find_fault({"city": None}) == ""
    assert made.call({"city": None}, CONTEXT) == "None"


def test_null_is_not_offered_to_a_field_that_rejects_it() -> None:
    assert schema_of(Note)["properties"]["title"] == {"type": "string"}


def test_annotated_describes_a_parameter() -> None:
    @tool
    def find(city: Annotated[str, "The  city."], zip: Annotated[int, "Not this."] = 0) -> None:
        """Find it.

        :param zip: Postal code.
        """

    properties = find.parameters["properties"]
    assert properties["city"] == {"type": "string", "description": "The city."}
    assert properties["zip"]["description"] == "Postal code."


def test_a_dataclass_has_its_defaults_as_if_it_was_called() -> None:
    @tool
    def place(points: list[Point], one: Point | None = None) -> list[dict[str, Any]]:
        """Place them."""
        return [vars(point) for point in points]

    assert place.call({"points": [{"x": 1.5}]}, CONTEXT) == [{"x": 1.5, "y": 0.5}]


def test_the_docstring_describes_the_tool_and_its_parameters() -> None:
    @tool
    def fetch(what: str, context: ToolContext, times: int = 1) -> str:
        """Fetch something.

        As often as you like.

        :param what: The thing
            to fetch.
        :param context: Hidden from the model.
        :returns: The thing.
        """
        return f"{what}*{times} for {context.username}"

    assert fetch.name == "fetch"
    assert fetch.description == "Fetch something.\n\nAs often as you like."
    assert list(fetch.parameters["properties"]) == ["what", "times"]
    assert fetch.parameters["properties"]["what"]["description"] == "The thing to fetch."
    assert fetch.parameters["required"] == ["what"]
    assert fetch.call({"what": "tea"}, CONTEXT) == "tea*1 for alice"


def test_arguments_come_as_the_types_that_were_asked_for() -> None:
    seen: list[Any] = []

    @tool
    def take(
        points: list[Point], colour: Colour, place: Place, count: int, limit: Point | None = None
    ) -> None:
        """Take all of it."""
        seen.extend([points, colour, place, count, limit])

    arguments = {
        "points": [{"x": 1}, {"x": 2, "y": 3}],
        "colour": "blue",
        "place": {"city": "Berlin"},
        "count": 2.0,
        "limit": {"x": 9},
    }
    assert take.find_fault(arguments) == ""
    take.call(arguments, CONTEXT)
    assert seen == [
        [Point(1.0), Point(2.0, 3.0)], Colour.BLUE, {"city": "Berlin"}, 2, Point(9.0),
    ]  # fmt: skip
    assert isinstance(seen[3], int)


def test_arguments_that_do_not_fit_are_a_clear_error_for_the_model() -> None:
    @tool
    def take(points: list[Point]) -> None:
        """Take them."""

    with pytest.raises(ToolError, match=r"Expected `float`, got `str` - at `\$\.points\[0\]\.x`"):
        take.call({"points": [{"x": "far"}]}, CONTEXT)


def test_a_bound_method_keeps_its_object() -> None:
    class Box:
        content = "tea"

        def look(self) -> str:
            """Look inside."""
            return self.content

    assert tool(Box().look).call({}, CONTEXT) == "tea"


def _no_docstring(x: int) -> None: ...


def _no_annotation(x):  # type: ignore[no-untyped-def]
    """Do it."""


def _of_a_class(self, x: int) -> None:  # type: ignore[no-untyped-def]
    """Do it."""


def _star(*values: int) -> None:
    """Do it."""


def _positional(x: int, /) -> None:
    """Do it."""


def _set(x: set[int]) -> None:
    """Do it."""


def _bytes(x: bytes) -> None:
    """Do it."""


def _number_keys(x: dict[int, str]) -> None:
    """Do it."""


class Mixed(Enum):
    WORD = "word"
    NUMBER = 1


def _mixed(x: Mixed) -> None:
    """Do it."""


def _endless(x: Endless) -> None:
    """Do it."""


def _alternatives(x: Point | Place) -> None:
    """Do it."""


def _unknown(x: NoSuchThing) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Do it."""


def _unknown_field(x: Unknown) -> None:
    """Do it."""


def _misspelt(count: int) -> None:
    """Do it.

    :param cuont: How many.
    """


def _generator(x: int) -> Iterator[str]:
    """Do it."""
    yield str(x)


async def _asynchronous(x: int) -> None:
    """Do it."""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_no_docstring, "a docstring is missing"),
        (_no_annotation, "parameter x has no annotation"),
        (_of_a_class, r"decorate the bound one: tool\(self.method\)"),
        (_star, "must be named"),
        (_positional, "must not be positional only"),
        (_set, "parameter x: set has no JSON schema here"),
        (_bytes, "parameter x: bytes has no JSON schema here"),
        (_number_keys, "the keys of a dict must be str"),
        (_endless, "Endless.inner: Endless has no JSON schema"),
        (_mixed, "Enums must contain either all str or all int values"),
        (_alternatives, "can be alternatives"),
        (_unknown, "name 'NoSuchThing' is not defined"),
        (_unknown_field, "name 'NoSuchThing' is not defined"),
        (_misspelt, "the docstring describes cuont, no parameter"),
        (_asynchronous, "an async function cannot be a tool"),
        (_generator, "a generator cannot be a tool; .* context.report_progress"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_at_once(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(TypeError, match=f"^tool {function.__name__}: .*{message}"):
        tool(function)


def test_a_name_that_no_model_could_call_is_refused() -> None:
    def fine(x: int) -> None:
        """Do it."""

    with pytest.raises(ValueError, match="a name has 1 to 128"):
        tool(name="two words")(fine)
