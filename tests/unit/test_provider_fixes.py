"""After typical errors of real endpoints, a changed request succeeds."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.provider import ModelOptions
from astrbot_api.errors import ProviderError
from astrbot_api.providers.error_texts import find_words
from astrbot_api.providers.failures import find_reason
from astrbot_api.providers.fixes import find_fixes, name_of
from astrbot_api.runtime.pauses import read_pause, read_retry_after

from ..strict_endpoint import StrictEndpoint, call, say
from .openai_asking import (
    HELLO,
    TOOL,
    ImpatientCancellation,
    ask,
    end_of,
    failure_of,
    provider_of,
    text_of,
)
from .raw_endpoint import DONE, Connection, RawEndpoint, event

Body = dict[str, Any]

USER = [{"role": "user", "content": "hi"}]
SYSTEM = [{"role": "system", "content": "Be kind."}, *USER]
TEXTS = [{"role": "user", "content": [{"type": "text", "text": one} for one in ("a", "b")]}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
PICTURE = [{"role": "user", "content": [{"type": "text", "text": "hi"}, IMAGE]}]
RECORDING = [{"role": "user", "content": [{"type": "text", "text": "hi"}, SOUND]}]
STEP: list[Body] = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": None, "tool_calls": [call("look", "{}")]},
    {"role": "tool", "tool_call_id": "call_1", "content": "r"},
]
LATE = [*SYSTEM, {"role": "system", "content": "Be brief."}, *USER]
LAST_WORD = [*USER, {"role": "assistant", "content": "Once upon a"}]
TWICE = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
LONG: list[Body] = [
    *[{"role": role, "content": "x" * 800} for _ in range(8) for role in ("user", "assistant")],
    *USER,
]


def has(name: str) -> Callable[[Body], bool]:
    return lambda body: name in body


def above(limit: int) -> Callable[[Body], bool]:
    return lambda body: not limit // 2 < body.get("max_tokens", 0) <= limit


def has_part(kind: str) -> Callable[[Body], bool]:
    return lambda body: any(
        part["type"] == kind
        for one in body["messages"]
        if isinstance(one["content"], list)
        for part in one["content"]
    )


def has_list(body: Body) -> bool:
    return any(isinstance(one["content"], list) for one in body["messages"])


def has_system(body: Body) -> bool:
    return any(one["role"] == "system" for one in body["messages"])


def has_no_text(body: Body) -> bool:
    return any(not one["content"] for one in body["messages"])


def has_null(body: Body) -> bool:
    return any(one["content"] is None for one in body["messages"])


def has_no_name(body: Body) -> bool:
    return any(one["role"] == "tool" and "name" not in one for one in body["messages"])


def has_pair(body: Body) -> bool:
    roles = [one["role"] for one in body["messages"]]
    return ("user", "user") in itertools.pairwise(roles)


def has_text_result(body: Body) -> bool:
    return any(one["role"] == "tool" and one["content"][0] != "{" for one in body["messages"])


def has_call(body: Body) -> bool:
    return any("tool_calls" in one for one in body["messages"])


def thinks(body: Body) -> bool:
    return "tools" in body and body.get("reasoning_effort") != "none"


def is_long(body: Body) -> bool:
    return len(json.dumps(body)) > 5000


#: Per kind: the rejected request, the retry, and the texts of the error.
KINDS: list[tuple[str, Callable[[Body], bool], Body, list[Body], list[str]]] = [
    ("a stream", lambda body: body["stream"], {}, USER, [
        "Streaming is not supported",
        "Unsupported value: 'stream' does not support true with this model.",
        "Your organization must be verified to stream this model.",
        "Tool calling with streaming is not supported", "parameter.stream must be false",
        "该模型不支持流式输出"]),
    ("stream_options", has("stream_options"), {}, USER, [
        "Stream options can only be defined when `stream=True`.", "include_usage is not supported",
        "参数 stream_options 不支持", "The parameter `stream_options` is not valid",
        "Invalid value for stream_options: must be null"]),
    ("max_tokens", above(8192), {"max_tokens": 99999}, USER, [
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
        "max_tokens: 99999 > 8192, which is the maximum allowed number of output tokens",
        "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is "
        "less than the `context_window` for this model", "参数 max_tokens 取值范围 [1, 8192]"]),
    ("max_tokens beside a short question", above(3990), {"max_tokens": 4096}, USER, [
        "'max_tokens' is too large: 4096. This model's maximum context length is 4096 tokens and "
        "your request has 100 input tokens (4096 > 4096 - 100).",
        "This model's maximum context length is 4096 tokens. However, you requested about 4196 "
        "tokens (100 of text input, 4096 in max_tokens). Please reduce the length of either one.",
        "input length and `max_tokens` exceed context limit: 100 + 4096 > 4096",
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 100 `inputs` tokens and 4096 "
        "`max_new_tokens`, so reduce max_tokens"]),
    ("no max_tokens", lambda body: "max_tokens" not in body, {}, USER, [
        "max_tokens: Field required", "Missing required parameter: 'max_tokens'"]),
    ("temperature", has("temperature"), {"temperature": 0.2}, USER, [
        "invalid temperature: only 1 is allowed for this model",
        "`temperature` may only be set to 1 when thinking is enabled.",
        "temperature must be strictly positive", "temperature 参数非法"]),
    ("a user", has("user"), {"user": "x" * 80}, USER, [
        "Invalid 'user': string too long. Expected a string with maximum length 64, but got a "
        "string with length 80 instead."]),
    ("another field", has("presence_penalty"), {"presence_penalty": 1}, USER, [
        "Argument not supported on this model: presencePenalty",
        "Penalty is not enabled for models/gemini-2.5-flash: presence_penalty"]),
    ("system", has_system, {}, SYSTEM, [
        "'system' is not one of ['user','assistant','tool']", "invalid role: system",
        "messages[0].role should be user or assistant", "Input should be 'user' or 'assistant'",
        "unknown variant `system`, expected one of `user`, `assistant`, `tool`",
        'Unexpected role "system". The Messages API accepts a top-level `system` parameter',
        "role 不支持 system",
        'Error rendering prompt with jinja template: "Only user and assistant roles are '
        'supported!"']),
    ("two systems", lambda body: has_system({"messages": body["messages"][1:]}), {}, LATE, [
        "System messages are only allowed at the beginning of the conversation",
        "Message 中 system 角色必须位于列表的最开始",
        "Only user and assistant roles are supported, with the exception of an initial optional "
        "system message!"]),
    ("tools", has("tools"), {}, USER, [
        "当前模型不支持 function call", "模型不支持工具调用", "does not support tools",
        "Unable to generate parser for this template. Automatic parser generation failed: \n---\n"
        "While executing CallExpression at line 163, column 57 in source:\n{% for k, v in "
        "_args.items() %}"]),
    ("schemas", has("tools"), {}, USER, [
        "tools.function.parameters is not a valid moonshot flavored json schema, details: <At path "
        "'required': required must be an array>"]),
    ("thinking beside tools", thinks, {}, USER, [
        "Function tools with reasoning_effort are not supported for gpt-5.6 in "
        "/v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to "
        "'none'."]),
    ("a call without thinking", has_call, {}, STEP, [
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.",
        "When `thinking` is enabled, a final message must start with a thinking block"]),
    ("thinking", has("reasoning_effort"), {"reasoning_effort": "medium"}, USER, [
        'think value "medium" is not supported for this model', '"m" does not support thinking',
        "Thinking level MINIMAL is not supported for this model. Please retry with other thinking "
        "level.", "Budget 0 is invalid. This model only works in thinking mode.",
        "Reasoning is mandatory for this endpoint and cannot be disabled."]),
    ("a choice of a tool", has("tool_choice"), {"tool_choice": "required"}, USER, [
        "No endpoints found that support the provided 'tool_choice' value."]),
    ("a result in words", has_text_result, {}, STEP, [
        "Invalid value at 'contents[2].parts[0].function_response.response' "
        '(type.googleapis.com/google.protobuf.Struct), "r"']),
    ("pictures", has_part("image_url"), {}, PICTURE, [
        "当前模型不支持图片输入", "messages.content.type 参数非法，取值范围 ['text']",
        "The model is not a VLM", "At most 0 image(s) may be provided in one prompt.",
        "图片格式错误，无法解析", "content.1.type: Input should be 'text'",
        "Exceeded limit on max bytes per data-uri item : 10485760", "Multimodal file is too large",
        "Image does not meet minimum requirements: at least 512 pixels", "Image is too large",
        "This model only supports text input"]),
    ("many pictures", lambda body: json.dumps(body).count("image_url\": {") > 2, {}, PICTURE * 4, [
        "At most 2 image(s) may be provided in one prompt.",
        "Too many images provided. This model supports up to 2 images",
        "Too many images in request: 4, max 2", "too many images and documents: 4 + 0 > 2",
        "Too much media: 0 document pages + 4 images > 2"]),
    ("sound", has_part("input_audio"), {}, RECORDING, [
        "不支持音频输入", "At most 0 audio(s) may be provided in one prompt."]),
    ("parts", has_list, {}, TEXTS, [
        "Input should be a valid string, messages.0.content",
        "json: cannot unmarshal array into Go struct field Message.content of type string",
        "content is not of type 'string'", "Expected string for content but got list",
        "content 字段必须为字符串"]),
    ("a nameless result", has_no_name, {}, STEP, [
        "messages[2].name: tool role requires name",
        "GenerateContentRequest.contents[2].parts[0].function_response.name: Name cannot be empty.",
        "Missing parameter 'name': messages with role 'tool' must have a 'name'.",
        'invalid Gemini function call history: ***.contents[2].parts[0]: ***.name "call_1" does '
        'not match ***.name "look"']),
    ("null", has_null, {}, STEP, [
        "messages[1].content: none is not an allowed value", "missing field `content`",
        "messages.1.content: Input should be a valid string",
        "'NoneType' object has no attribute 'strip'", "Value is not callable: null at row 49",
        'can only concatenate str (not "NoneType") to str',
        'Error rendering prompt with jinja template: "Cannot apply filter \\"trim\\" to type: '
        'NullValue".', "Cannot call something that is not a function: got UndefinedValue"]),
    ("an empty text", has_no_text, {}, STEP, [
        "messages: text content blocks must contain non-whitespace text",
        "The text field in the ContentBlock object at messages.1.content.0 is blank.",
        "messages: text content blocks must be non-empty", "content不能为空",
        "The content field is a required field.",
        "Invalid request: the message at position 2 with role 'assistant' must not be empty"]),
    ("two of a role", has_pair, {}, TWICE, [
        "consecutive messages of the same role are not allowed",
        "messages 中 user 和 assistant 必须交替出现", "successive user messages not supported"]),
    ("the assistant's last word", lambda body: body["messages"][-1]["role"] == "assistant", {},
     LAST_WORD, [
        "This model does not support assistant message prefill. The conversation must end with a "
        "user message.",
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
        "assistant", "Last message must have role `user`.", "messages must end with user role",
        "Cannot set `add_generation_prompt` to True when the last message is from the "
        "assistant."]),
    ("a long one", is_long, {}, LONG, [
        "Cannot truncate prompt with n_keep (6013) >= n_ctx (4096)",
        "Your request exceeded model token limit: 8192", "输入内容过长，请减少输入",
        "请求的上下文长度超过了模型支持的最大长度", "prompt tokens exceed", "Token limit exceeded",
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens",
        "Input validation error: `inputs` must have less than 1024 tokens. Given: 1200",
        "The prompt (length 5000) exceeds the max_seq_len 4096", "input_tokens 300000 > 262144",
        "Sequence length (9000) is longer than max sequence length 8192",
        "max_tokens must be at least 1, got -500", "The message you submitted was too long",
        "Invalid 'messages[1].content': string too long. Expected a string with maximum length "
        "1048576", "La entrada supera la longitud máxima del contexto", "入力が長すぎます",
        "Unable to submit request because the input token count is 40000 but model only supports "
        "up to 32767. Reduce the input token count and try again.",
        "the max input characters is 20480", "This model supports at most 32000 input tokens",
        "The input length exceeds the limit of the model", "请求体过大",
        "input tokens 30000 is greater than the maximum 16384"]),
]  # fmt: skip

CASES = [
    pytest.param(refused, extra, messages, text, id=f"{kind} {at}")
    for kind, refused, extra, messages, texts in KINDS
    for at, text in enumerate(texts)
]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("refused", "extra", "messages", "text"), CASES)
def test_a_refusal_is_cured(
    refused: Callable[[Body], bool], extra: Body, messages: list[Body], text: str, inside: bool
) -> None:
    error = {"error": {"message": text, "type": "invalid_request_error", "code": None}}
    bodies: list[Body] = []

    def handle(connection: Connection) -> None:
        for _, raw in connection.iter_requests():
            body = json.loads(raw)
            bodies.append(body)
            if refused(body):
                if inside:  # an error without a status in a stream that started normally
                    connection.send_stream(b"data: " + json.dumps(error).encode() + b"\n\n")
                else:
                    connection.send_json(400, error)
            elif body["stream"]:
                connection.send_stream(*HELLO)
            else:
                message = {"role": "assistant", "content": "Hello"}
                connection.send_json(200, {"choices": [{"message": message}]})

    with RawEndpoint(handle) as endpoint:
        provider = provider_of(endpoint, extra=extra, max_retries=0)
        for _ in range(2):  # the change is remembered
            asked = ModelOptions(Cancellation())
            assert text_of(list(provider.stream(messages, (TOOL,), asked))) == "Hello"
    assert refused(bodies[0])
    assert len(bodies[0].keys() - bodies[-1].keys()) <= 1, "no other field is left out"


def test_a_conversation_that_takes_most_of_the_context_is_shortened_and_not_its_answer() -> None:
    text = (
        "This model's maximum context length is 8192 tokens. However, you requested 9192 tokens "
        "(7192 in the messages, 2000 in max_tokens)."
    )
    with StrictEndpoint(
        lambda number, body: (400, {"error": {"message": text}}) if is_long(body) else say("ok")
    ) as endpoint:
        provider = provider_of(endpoint, extra={"max_tokens": 2000})
        list(provider.stream(LONG, (), ModelOptions(Cancellation())))
        assert {body["max_tokens"] for body in endpoint.bodies} == {2000}


def test_the_newer_name_of_max_tokens_is_replaced_by_the_older_one() -> None:
    text = "Unrecognized request argument supplied: max_completion_tokens"
    with StrictEndpoint(
        lambda number, body: (
            (400, {"error": {"message": text}}) if "max_completion_tokens" in body else say("ok")
        )
    ) as endpoint:
        ask(provider_of(endpoint, extra={"max_completion_tokens": 90}))
        assert endpoint.bodies[-1]["max_tokens"] == 90


@pytest.mark.parametrize(
    "text",
    [
        "messages.1.content.0: Invalid `signature` in `thinking` block",
        "Corrupted thought signature.",
        "reasoning could not be verified",
    ],
)
def test_a_signature_that_expired_is_left_out_once(text: str) -> None:
    details = [{"type": "reasoning.text", "text": "hm", "signature": "s1"}]

    def play(number: int, body: Body) -> Any:
        if number == 1:
            return [event({"content": "Hi", "reasoning_details": details}), event({}, "stop"), DONE]
        if number in (2, 3) and "s1" in json.dumps(body["messages"]):
            return 400, {"error": {"message": text}}
        return say("ok")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        said = {"role": "assistant", "content": "Hi", "attached": end_of(provider).attached}
        for _ in range(2):
            ask_again = [*USER, dict(said), *USER]
            list(provider.stream(ask_again, (), ModelOptions(Cancellation())))
        sent = ["s1" in json.dumps(body["messages"]) for body in endpoint.bodies]
    assert sent == [False, True, False, True]


@pytest.mark.parametrize(
    ("field", "kept", "text"),
    [
        ("reasoning_details", "extra_content",
         "body.messages.1.reasoning_details: Extra inputs are not permitted"),
        ("extra_content", "reasoning_details",
         "Unknown name \"extra_content\" at 'messages[1].tool_calls[0]': Cannot find field."),
    ],
)  # fmt: skip
def test_a_field_of_a_message_or_of_a_call_is_left_out_from_its_refusal_on(
    field: str, kept: str, text: str
) -> None:
    made = {**call("look", "{}"), "extra_content": {"google": {"thought_signature": "s"}}}
    details = [{"type": "reasoning.text", "text": "hm"}]

    def play(number: int, body: Body) -> Any:
        if number == 1:
            delta = {"tool_calls": [{"index": 0, **made}], "reasoning_details": details}
            return [event(delta), event({}, "tool_calls"), DONE]
        is_refused = field in json.dumps(body["messages"])
        return (400, {"error": {"message": text}}) if is_refused else say("ok")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        step = {**STEP[1], "attached": end_of(provider, tools=(TOOL,)).attached}
        for _ in range(2):
            conversation = [STEP[0], dict(step), STEP[2]]
            list(provider.stream(conversation, (TOOL,), ModelOptions(Cancellation())))
        sent = [json.dumps(body["messages"]) for body in endpoint.bodies[1:]]
    assert [field in one for one in sent] == [True, False, False]
    assert all(kept in one for one in sent)


def test_only_what_is_refused_is_left_out_and_the_model_learns_of_it() -> None:
    def play(number: int, body: Body) -> Any:
        content = body["messages"][-1]["content"]
        has_sound = not isinstance(content, str) and SOUND in content
        return (
            (400, {"error": {"message": "This model does not support audio input"}})
            if (has_sound)
            else say("ok")
        )

    parts = [{"type": "text", "text": "hi"}, IMAGE, SOUND]
    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        for content in (parts, [parts[0], SOUND]):
            asked = [{"role": "user", "content": content}]
            list(provider.stream(asked, (), ModelOptions(Cancellation())))
        _, first, second = (body["messages"][-1]["content"] for body in endpoint.bodies)
    assert first == parts[:2]
    assert second == "hi\n[What was attached cannot be shown to this model.]"


@pytest.mark.parametrize("extra", [{}, {"max_tokens": 64000}, {"max_completion_tokens": 64000}])
def test_an_answer_is_as_long_as_the_balance_allows_and_no_longer_after_topping_up(
    extra: Body,
) -> None:
    text = (
        "This request requires more credits, or fewer max_tokens. You requested up to 64000 "
        "tokens, but can only afford {}. To increase, visit https://openrouter.ai/settings/credits"
    )

    def play(number: int, body: Body) -> Any:
        affordable = {1: 6130, 2: 6100, 4: 499}.get(number)
        if affordable is None:
            return say("ok")
        return 402, {"error": {"message": text.format(affordable), "code": 402}}

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint, extra=extra)
        assert text_of(ask(provider)) == "ok"
        assert "no balance left (HTTP 402)" in failure_of(provider).message
        asked = [
            {key: body[key] for key in body if key.startswith("max_")} for body in endpoint.bodies
        ]
    name = next(iter(extra), "max_tokens")
    assert asked == [extra, {name: 6130}, {name: 6100}, extra]


@pytest.mark.parametrize(
    "text",
    [
        "BedrockException - The toolConfig field must be defined when using toolUse and toolResult "
        "content blocks.",
        "litellm.UnsupportedParamsError: Anthropic expects the `tools=` param to be passed in.",
        "Requests which have `tool_use` or `tool_result` blocks must define tools",
    ],
)
def test_without_tools_their_calls_are_sent_as_text_if_need_be(text: str) -> None:
    def play(number: int, body: Body) -> Any:
        has_calls = any("tool_calls" in one for one in body["messages"])
        return (
            (400, {"error": {"message": text}}) if has_calls and "tools" not in body else say("ok")
        )

    with StrictEndpoint(play, alternating=True) as endpoint:
        provider = provider_of(endpoint)
        for tools in ((), (), (TOOL,)):
            list(provider.stream(STEP, tools, ModelOptions(Cancellation())))
        _, first, second, third = (body["messages"] for body in endpoint.bodies)
    assert first == second
    assert [one["content"] for one in first] == [
        "a", "[Called look with {}]", "[look returned:]\n\nr"
    ]  # fmt: skip
    assert "tool_calls" in third[1]


@pytest.mark.parametrize(
    "text",
    [
        "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        "toolUseId failed to satisfy constraint: Member must satisfy regular expression pattern: "
        "[a-zA-Z0-9_-]+",
    ],
)
def test_an_id_of_another_model_behind_the_same_gateway_is_replaced(text: str) -> None:
    given = {**call("look", "{}"), "id": "functions.look:0"}
    event = {"choices": [{"delta": {"tool_calls": [given]}, "finish_reason": "tool_calls"}]}

    def play(number: int, body: Body) -> Any:
        if number == 1:
            return [b"data: " + json.dumps(event).encode() + b"\n\n", b"data: [DONE]\n\n"]
        ids = {one["id"] for message in body["messages"] for one in message.get("tool_calls", ())}
        return say("ok") if all(map(str.isalnum, ids)) else (400, {"error": {"message": text}})

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        attached = end_of(provider, tools=(TOOL,)).attached
        step = {"role": "assistant", "attached": attached, "tool_calls": [given]}
        result = {"role": "tool", "tool_call_id": given["id"], "content": "r"}
        asked = ModelOptions(Cancellation(), model="claude")
        list(provider.stream([*USER, step, result], (TOOL,), asked))
        assert len(endpoint.bodies) == 3


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    "text",
    ["Unable to generate parser for this template. Automatic parser generation failed: JSON schema "
     "conversion failed:\nPattern must start with '^' and end with '$'",
     "JSON schema conversion failed:\nPattern must start with '^' and end with '$'",
     "Failed to initialize samplers: failed to parse grammar"],
)  # fmt: skip
def test_schemas_without_a_grammar_lose_their_checks(text: str, status: int) -> None:
    def tool(*, checked: bool) -> Body:
        checks = {"pattern": "[a-z]", "maxLength": 10_000} if checked else {}
        pattern = {"type": "string", "enum": ["format"], **checks}
        odd: Any = True if checked else {}
        properties = {
            "pattern": pattern, "all": {"type": "array", "items": pattern}, "any": odd,
            "odd": {"type": "any"} if checked else {},
        }  # fmt: skip
        schema = {"type": "object", "properties": properties, "required": ["pattern"]}
        return {"type": "function", "function": {"name": "grep", "parameters": schema}}

    def play(number: int, body: Body) -> Any:
        return (status, {"error": {"message": text}}) if "[a-z]" in json.dumps(body) else say("ok")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint, max_retries=0)
        for _ in range(2):
            assert text_of(ask(provider, tools=(tool(checked=True),))) == "ok"
    assert [one["tools"] for one in endpoint.bodies[1:]] == [[tool(checked=False)]] * 2


@pytest.mark.parametrize(
    "text",
    [
        'Unknown name "exclusiveMinimum" at \'tools[0].function_declarations[%d].parameters.'
        "properties[0].value': Cannot find field.",
        "Invalid schema for function 'tool_%d': exclusiveMinimum is not permitted.",
        "The parameter `tools.function.parameters` specified in the request are not valid: %d",
    ],
)
def test_many_refused_tools_are_offered_with_plainer_schemas(text: str) -> None:
    def make(number: int) -> Body:
        seconds = {"type": "integer", "exclusiveMinimum": 0, "description": "Seconds."}
        schema = {"type": "object", "properties": {"seconds": {"anyOf": [seconds]}}}
        return {"type": "function", "function": {"name": f"tool_{number}", "parameters": schema}}

    def play(number: int, body: Body) -> Any:
        odd = (at for at, one in enumerate(body["tools"]) if "exclusive" in json.dumps(one))
        at = next(odd, None)
        return say("ok") if at is None else (400, {"error": {"message": text % at}})

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint, max_retries=0)
        for _ in range(2):
            assert text_of(ask(provider, tools=tuple(map(make, range(20))))) == "ok"
        assert len(endpoint.bodies) == 3
    assert len(endpoint.bodies[-1]["tools"]) == 20
    assert "Seconds." in json.dumps(endpoint.bodies[-1])


def test_a_tool_that_no_plainer_schema_saves_costs_the_others_nothing() -> None:
    text = "Invalid schema for function 'bad': the name is reserved."
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}
    tools = [
        {"type": "function", "function": {"name": name, "strict": True, "parameters": schema}}
        for name in ("good", "bad")
    ]

    def play(number: int, body: Body) -> Any:
        refused = any(name_of(one) == "bad" for one in body["tools"])
        return (400, {"error": {"message": text}}) if refused else say("ok")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint, max_retries=0)
        ask(provider, tools=tuple(tools))
        endpoint.bodies.clear()
        ask(provider, tools=tuple(tools))
        assert [one["tools"] for one in endpoint.bodies] == [tools[:1]]


def test_a_client_cannot_limit_the_tools_of_others() -> None:
    def play(number: int, body: Body) -> Any:
        marked = [one for one in body["tools"] if "most" in one["function"].get("description", "")]
        refused = [{"loc": ["body", "tools", 1], "msg": "not a valid schema", "input": marked}]
        return (400, {"detail": refused}) if marked else say("ok")

    client = {"name": "mine", "description": "Takes at most 1 tools."}
    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint, max_retries=0)
        with suppress(ProviderError):
            ask(provider, tools=(TOOL, {"type": "function", "function": client}))
        other = {"type": "function", "function": {"name": "other"}}
        ask(provider, tools=(TOOL, other))
        assert endpoint.bodies[-1]["tools"] == [TOOL, other]


@pytest.mark.parametrize(
    "text",
    [
        "Invalid 'tools': array too long. Expected an array with maximum length 64, but got an "
        "array with length 100 instead.",
        "You may not include more than 64 tools in your request.", "Too many tools: 100, max 64",
        "The number of tools (100) exceeds the limit of 64", "At most 64 functions may be given",
        "tools 数量超出限制，最多支持 64 个",
    ],
)  # fmt: skip
def test_of_too_many_tools_the_first_are_offered(text: str) -> None:
    def play(number: int, body: Body) -> Any:
        return (400, {"error": {"message": text}}) if len(body["tools"]) > 64 else say("ok")

    tools = [{"type": "function", "function": {"name": f"tool_{at}"}} for at in range(100)]
    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint, max_retries=0)
        for _ in range(2):
            assert text_of(ask(provider, tools=tuple(tools))) == "ok"
        assert [len(one["tools"]) for one in endpoint.bodies] == [100, 64, 64]


@pytest.mark.parametrize(
    "text",
    [
        "JSON schema error at #/properties/a: cannot resolve $ref #/$defs/x, $defs not found",
        "tools.function.parameters is not a valid moonshot flavored json schema, details: <At path "
        "'properties.a.$ref': references must start with #/$defs/>",
    ],
)
def test_of_tools_with_the_same_place_the_refused_one_is_omitted(text: str) -> None:
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"properties": {"a": one}}}}
        for name, one in (("good", {}), ("bad", {"$ref": "#/$defs/x"}), ("better", {}))
    ]

    def play(number: int, body: Body) -> Any:
        return (400, {"error": {"message": text}}) if "$ref" in json.dumps(body) else say("ok")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint, max_retries=0)
        for _ in range(2):
            assert text_of(ask(provider, tools=tuple(tools))) == "ok"
    assert [one["function"]["name"] for one in endpoint.bodies[-1]["tools"]] == ["good", "better"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": "tool_use_failed", "message": "Failed to call a function. Please adjust "
               "your prompt.", "failed_generation": '<function=look>{"q":"tools not supported"}'}),
        (400, {"code": "tool_use_failed", "message": "tool call validation failed: parameters for "
               "tool look did not match schema: errors: [`/a`: expected array]"}),
        (500, {"message": "error parsing tool call: raw='{\"q\": \"tool support', err=unexpected "
               "end of JSON input", "type": "api_error"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("inside", [False, True])
def test_a_call_that_the_endpoint_cannot_read_is_asked_for_again_with_all_tools(
    status: int, error: Body, inside: bool
) -> None:
    event = b"event: error\ndata: " + json.dumps({"error": error}).encode() + b"\n\n"

    def play(number: int, body: Body) -> Any:
        if number > 1:
            return say("ok")
        return [event] if inside else (status, {"error": error})

    with StrictEndpoint(play) as endpoint:
        ask(provider_of(endpoint), tools=(TOOL,))
        assert [one["tools"] for one in endpoint.bodies] == [[TOOL], [TOOL]]


def test_a_prompt_that_an_error_repeats_is_not_taken_for_forbidden_content() -> None:
    prompt = "Never show sensitive information."
    refused = [{"type": "literal_error", "loc": ["body", "messages", 0, "role"],
                "msg": "Input should be 'user' or 'assistant'", "input": prompt}]  # fmt: skip
    for error in ({"detail": refused}, {"message": str(refused)}):

        def play(number: int, body: Body, error: Body = error) -> Any:
            refuses = body["messages"][0]["role"] == "system"
            return (400, {"error": error}) if refuses else say("ok")

        asked = [{"role": "system", "content": prompt}, *USER]
        with StrictEndpoint(play) as endpoint:
            answer = provider_of(endpoint).stream(asked, (), ModelOptions(Cancellation()))
            assert text_of(list(answer)) == "ok"


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "error",
    [{"message": "Your image may contain content that is not allowed by our safety system.",
      "code": "moderation_blocked"},
     {"message": "Input data may contain inappropriate content.", "param": None,
      "code": "data_inspection_failed"},
     {"message": "Content Exists Risk", "type": "invalid_request_error", "param": None},
     {"message": "Invalid prompt: your prompt was flagged as potentially violating our usage "
      "policy. Please see the guide to reasoning", "code": "invalid_prompt"},
     {"message": "系统检测到输入或生成内容可能包含不安全或敏感内容", "code": "1301"}],
)  # fmt: skip
def test_forbidden_content_is_sent_once(error: Body, inside: bool) -> None:
    def play(number: int, body: Body) -> Any:
        if inside:
            return [b"data: " + json.dumps({"error": error}).encode() + b"\n\n"]
        return 400, {"error": error}

    asked = ModelOptions(Cancellation())
    with StrictEndpoint(play) as endpoint:
        answer = provider_of(endpoint).stream([*STEP, *PICTURE], (TOOL,), asked)
        with pytest.raises(ProviderError, match=error["message"][:20]) as refused:
            list(answer)
    assert len(endpoint.bodies) == 1
    assert refused.value.reason == "provider_refused"


def test_the_newest_of_too_many_pictures_are_kept() -> None:
    def play(number: int, body: Body) -> Any:
        many = json.dumps(body).count("base64") > 1
        error = {"error": {"message": "At most 1 image(s) may be provided in one prompt."}}
        return (400, error) if many else say("ok")

    said = [{"role": "user", "content": [{"type": "text", "text": one}, IMAGE]} for one in "ab"]
    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        for _ in range(2):
            list(provider.stream(said, (), ModelOptions(Cancellation())))
        first, second = (one["messages"] for one in endpoint.bodies[1:])
    assert first == second
    assert [part["type"] for part in first[0]["content"]] == ["text", "text"]
    assert first[1] == said[1]


def test_old_pictures_are_omitted_if_a_request_is_too_large() -> None:
    def play(number: int, body: Body) -> Any:
        return (413, {}) if json.dumps(body).count("base64") > 1 else say("ok")

    said = [{"role": "user", "content": [{"type": "text", "text": one}, IMAGE]} for one in "abc"]
    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        list(provider.stream(said, (), ModelOptions(Cancellation())))
        assert endpoint.bodies[-1]["messages"][-1] == said[-1]
        list(provider.stream(said[:1], (), ModelOptions(Cancellation())))
        assert endpoint.bodies[-1]["messages"] == said[:1]
    with (
        StrictEndpoint(lambda number, body: (413, {})) as endpoint,
        pytest.raises(ProviderError, match="with its pictures is too large"),
    ):
        list(provider_of(endpoint).stream(said[:1], (), ModelOptions(Cancellation())))
    assert len(endpoint.bodies) == 1


@pytest.mark.parametrize("place", ["tools[0].function.description", "tools[0].description"])
def test_a_long_description_is_cut_and_its_tool_kept(place: str) -> None:
    error = {
        "message": f"Invalid '{place}': string too long. Expected a string "
        "with maximum length 1024, but got a string with length 1200 instead.",
        "code": "string_above_max_length",
    }

    def play(number: int, body: Body) -> Any:
        (one,) = body["tools"]
        long = len(one["function"]["description"]) > 1024
        return (400, {"error": error}) if long else say("ok")

    tool = {"type": "function", "function": {**TOOL["function"], "description": "x" * 1200}}
    with StrictEndpoint(play) as endpoint:
        ask(provider_of(endpoint), tools=(tool,))
        assert len(endpoint.bodies) == 2


@pytest.mark.parametrize(
    "text",
    [
        "maximum context length is 9, you requested {}", "too many images > {}",
        "at most {} images", "max_tokens: context length {}", "tools[{}] has no schema",
    ],
)  # fmt: skip
def test_a_number_that_is_too_long_is_no_limit(text: str) -> None:
    body = {"messages": [{"role": "user", "content": [IMAGE]}], "tools": [TOOL], "max_tokens": 9}
    list(find_fixes(400, text.format("9" * 5000), body))


@pytest.mark.parametrize(
    ("refused", "messages", "text"),
    [
        (has_null, STEP, "Value is not callable: null at row 58, column 111"),
        (has_system, SYSTEM, "Only user and assistant roles are supported!"),
        (has_part("image_url"), PICTURE, "Failed to load image or audio file"),
        (has_part("image_url"), PICTURE, "unable to make llava embedding from image"),
    ],
)
def test_a_rejection_with_the_status_of_a_failure_is_cured(
    refused: Callable[[Body], bool], messages: list[Body], text: str
) -> None:
    def play(number: int, body: Body) -> Any:
        return (500, {"error": {"message": text}}) if refused(body) else say("Hello")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint, max_retries=0)
        assert text_of(list(provider.stream(messages, (), ModelOptions(Cancellation())))) == "Hello"


@pytest.mark.parametrize("text", ["File is too large", "Image too large", "The name is too long"])
@pytest.mark.parametrize("quote", ["'", '"', '\\"'])
def test_only_a_long_conversation_is_too_long(text: str, quote: str) -> None:
    error = '{"error": {"message": "%s"}}'.replace('"', quote) % text
    assert find_reason(400, error) == "provider_refused"


def test_a_limit_of_a_rate_does_not_shorten_the_conversation() -> None:
    text = "ThrottlingException: Too many tokens, please wait before trying again."
    assert list(find_fixes(500, text, {"model": "m", "messages": LONG})) == []


def test_a_blank_text_beside_a_call_is_not_sent() -> None:
    with StrictEndpoint(lambda number, body: say("ok")) as endpoint:
        step = {**STEP[1], "content": "\n\n"}
        list(
            provider_of(endpoint).stream(
                [STEP[0], step, STEP[2]], (TOOL,), ModelOptions(Cancellation())
            )
        )
        assert endpoint.bodies[0]["messages"][1]["content"] is None


def test_a_field_is_left_out_rather_than_the_tools() -> None:
    for name in ("tool_choice", "parallel_tool_calls"):
        body = {"messages": USER, "tools": [TOOL], name: "auto"}
        (first, *_) = find_fixes(400, f"Unsupported parameter: '{name}' is not supported", body)
        assert (first.kind, first.name) == ("field", name)


def test_strict_goes_before_its_tool() -> None:
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}

    def play(number: int, body: Body) -> Any:
        if "strict" in body["tools"][0]["function"]:
            return 400, {"error": {"message": "Invalid schema for function 'look': not strict"}}
        return say("ok")

    with StrictEndpoint(play) as endpoint:
        assert text_of(ask(provider_of(endpoint), tools=(strict,))) == "ok"


def test_a_format_of_the_answer_that_is_wrong_is_its_authors() -> None:
    body = {"messages": USER, "response_format": {"type": "json_schema"}}
    assert list(find_fixes(400, "Invalid schema for response_format 'x': must be", body)) == []


def test_no_refusal_goes_on_for_ever() -> None:
    text = "stream temperature max_tokens 10 not supported, must alternate, content required"
    with StrictEndpoint(lambda number, body: (400, {"error": {"message": text}})) as endpoint:
        failure_of(provider_of(endpoint, extra={"temperature": 1, "max_tokens": 500}))
        assert len(endpoint.bodies) < 10


@pytest.mark.parametrize("inside", [False, True])
def test_a_key_is_not_shown_whatever_it_looks_like(inside: bool) -> None:
    error = {"error": {"message": "The key very-secret-1234567890 must not be in a header"}}
    played: Any = [b"data: " + json.dumps(error).encode() + b"\n\n"] if inside else (400, error)
    with StrictEndpoint(lambda number, body: played) as endpoint:
        message = failure_of(provider_of(endpoint, max_retries=0)).message
    assert "very-secret" not in message
    assert "must not be in a header" in message


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [("2", 2), ("1.5", 1.5), ("2s", 2), ("2m30s", 150), ("1500ms", 1.5), ("2, 2", 2), ('"2"', 2),
     ("99999999999999", 99999999999999), ("-5", None), ("soon", None),
     ("", None), ("NaN", None), ("Mon, 01 Jan 0001 00:00:00 GMT", 0)],
)  # fmt: skip
def test_odd_pauses_are_understood(header: str, pause_s: float | None) -> None:
    assert read_retry_after(header) == pause_s


@pytest.mark.parametrize(
    ("text", "pause_s"),
    [("Rate limit reached. Please try again in 2.5s.", 2.5), ("Please try again in 7m12s", 432),
     ("try again in 500ms", 0.5), ("Please retry after 6 seconds.", 6), ('"retryDelay": "4s"', 4),
     ('{"error": "Model m is currently loading", "estimated_time": 20.5}', 20.5),
     ('{"retry_after": 3}', 3), ('{"retry_after_ms": 500}', 0.5), ("slow down", None),
     ("Please wait 20 seconds before retrying", 20), ("The limit resets in 2 minutes", 120),
     ("请求过于频繁，请在 30 秒后重试", 30), ("请5分钟后再试", 300), ("retry 3 times", None),
     ("Your quota resets in 2 days", 172_800), ("请在 5 小时后重试", 18_000),
     ("请3天后再试", 259_200), ("retry-after: 5 date: Mon", 5)],
)  # fmt: skip
def test_a_pause_may_stand_in_the_words(text: str, pause_s: float | None) -> None:
    assert read_pause({}, text) == pause_s


def test_a_pause_may_be_the_time_of_its_end_in_milliseconds() -> None:
    in_100_s = int(time.time() * 1000) + 100_000
    text = f'{{"metadata": {{"headers": {{"X-RateLimit-Reset": "{in_100_s}"}}}}}}'
    assert 50 < (read_pause({}, text) or 0) <= 100


def test_a_pause_in_words_is_kept_to() -> None:
    error = {"error": {"message": "Please try again in 2.5s."}}
    cancel = ImpatientCancellation()
    with StrictEndpoint(lambda number, body: (429, error)) as endpoint:
        failure_of(provider_of(endpoint, max_retries=1), cancel=cancel)
    assert cancel.waits == [2.5]


def test_the_words_of_an_error_are_looked_for_to_a_bounded_depth() -> None:
    error: dict[str, Any] = {"message": "innermost"}
    for _ in range(2000):
        error = {"message": "failed", "metadata": {"raw": error}}
    words = find_words(error)
    assert words.startswith("failed")
    assert "innermost" not in words


# -- too long conversations -----------------------------------------------------------------------


def turn(word: str, result: str) -> list[Body]:
    """Return a turn with a question, a call with its result, and an answer."""
    step = {"role": "assistant", "content": None, "tool_calls": [call("look", "{}")]}
    said = {"role": "tool", "tool_call_id": "call_1", "content": result}
    return [
        {"role": "user", "content": f"question {word}"}, step, said,
        {"role": "assistant", "content": f"answer {word}"},
    ]  # fmt: skip


def shorten(*conversations: list[Body], max_chars: int) -> list[Body]:
    """Return the messages that an endpoint with this limit accepts of the last conversation."""
    too_long = 400, {"error": {"message": "The prompt is too long."}}

    def play(number: int, body: Body) -> Any:
        return too_long if len(json.dumps(body["messages"])) > max_chars else say("ok")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        for messages in conversations:
            list(provider.stream(messages, (TOOL,), ModelOptions(Cancellation())))
        found: list[Body] = endpoint.bodies[-1]["messages"]
    return found


RULE = {"role": "system", "content": "Be kind."}


def test_results_of_earlier_turns_are_cut_before_any_turn_is_dropped() -> None:
    messages = [RULE, *turn("one", "x" * 4000), *turn("two", "y" * 150), *USER]
    found = shorten(messages, max_chars=3000)
    assert [one["role"] for one in found] == [one["role"] for one in messages]
    assert [one["content"] for one in found if one["role"] == "tool"] == [
        "x" * 200 + "\n[cut]", "y" * 150
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "prompt is too long: 20000 tokens > 2000 maximum",
        "This model's maximum context length is 2,000 tokens. However, you requested about 20,000 "
        "tokens (19500 of text input, 500 in the output). Request id: 021734567890123",
        "request (20000 tokens) exceeds the available context size (2000 tokens)",
        "the request exceeds the available context size. try increasing the context size or enable "
        'context shift", "n_prompt_tokens": 20000, "n_ctx": 2000, "code": 400',
        "The decoder prompt (length 20000) is longer than the maximum model length of 2000. Make "
        "sure that `max_model_len` is no smaller than the number of text tokens.",
        "Your request exceeded model token limit: 2000 (requested: 20000)",
        "Trying to keep the first 20000 tokens when context the overflows. However, the model is "
        "loaded with context length of only 2000 tokens, which is not enough",
        "Prompt contains 20000 tokens and 0 draft tokens, too large for model with 2000 maximum "
        "context length",
        "The input token count (20000) exceeds the maximum number of tokens allowed (2000)",
    ],
)
def test_the_numbers_of_the_error_decide_how_much_is_left(text: str) -> None:
    answers: list[Any] = [(400, {"error": {"message": text}}), say("ok")]
    with StrictEndpoint(lambda number, body: answers[number - 1]) as endpoint:
        list(provider_of(endpoint).stream(LONG, (), ModelOptions(Cancellation())))
        first, second = (len(json.dumps(body["messages"])) for body in endpoint.bodies)
    assert second < first / 5


def test_whole_turns_are_dropped_from_the_oldest_on() -> None:
    turns = [one for at in range(9) for one in turn(str(at), "x" * 150)]
    found = shorten([RULE, *turns, *USER], max_chars=2000)
    assert found[0] == RULE
    assert found[1]["content"].startswith("question")
    kept = [one["content"] for one in found if one["role"] == "user"]
    assert kept == [*(f"question {at}" for at in range(10 - len(kept), 9)), "hi"]
    assert 2 < len(kept) < 9


def test_results_of_this_turn_are_cut_when_nothing_else_is_left() -> None:
    question, step, result, _ = turn("now", "z" * 9000)
    found = shorten([RULE, *turn("old", "x"), question, step, result], max_chars=3000)
    assert [one["role"] for one in found] == ["system", "user", "assistant", "tool"]
    assert found[-1]["content"] == "z" * 2000 + "\n[cut]"
    found = shorten([RULE, question, step, result], max_chars=800)
    assert found[-1]["content"] == "z" * 200 + "\n[cut]"


def test_a_conversation_that_fits_a_known_limit_is_sent_as_it_is() -> None:
    past, now = turn("old", "x" * 300), turn("now", "y" * 2500)[:3]
    past[-1]["content"] += "z" * 300
    long = [*turn("long", "x" * 200), *({"role": "user", "content": "x" * 9000} for _ in range(3))]
    found = shorten(long, [RULE, *past, *now], max_chars=12_000)
    assert [one["content"] for one in found] == [one["content"] for one in (RULE, *past, *now)]


def test_what_precedes_the_first_question_is_dropped_like_a_turn() -> None:
    greeting = {"role": "assistant", "content": "x" * 4000}
    assert shorten([RULE, greeting, *USER], max_chars=1000) == [RULE, *USER]
