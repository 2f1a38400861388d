"""The OpenAPI document is complete, and so is the page that shows it.

A new route, field or error code without a text, an example or a Chinese translation fails here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from astrbot_api import translations
from astrbot_api.db.keys import ALL_SCOPES
from astrbot_api.error_codes import _TABLE, ERROR_CODES
from astrbot_api.errors import STATUS_OF_CODE
from astrbot_api.http.api import RESOURCES
from astrbot_api.http.docs.routes import PAGE_TEXTS
from astrbot_api.http.openapi import documents
from astrbot_api.http.openapi.complete import complete_document, iter_operations
from astrbot_api.http.openapi.documents import map_texts
from astrbot_api.translations import (
    DOCUMENTATION,
    LANGUAGES,
    OWNER_PAGES,
    WIDGET,
    find_key,
    load_catalogue,
    split_paragraphs,
)

from .conftest import Api

DOCUMENT_URL = "/api/v1/openapi.json"
CHINESE = load_catalogue("zh", DOCUMENTATION)


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    return get_document(api)


def get_document(api: Api, query: str = "", **options: Any) -> dict[str, Any]:
    answer = api.client.get(DOCUMENT_URL + query, **options)
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    found: dict[str, Any] = answer.get_json()
    return found


def iter_schemas(node: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the location and the schema of each property and parameter, at any depth."""
    if isinstance(node, list):
        for at, item in enumerate(node):
            yield from iter_schemas(item, f"{where}/{at}")
    if not isinstance(node, dict):
        return
    for name, schema in node.get("properties", {}).items():
        yield f"{where}.{name}", schema
    parameters = node.get("parameters", ())
    for parameter in parameters if isinstance(parameters, list) else ():
        yield f"{where}?{parameter['name']}", {**parameter["schema"], **parameter}
    for key, value in node.items():
        if key not in ("example", "default", "enum", "value"):
            yield from iter_schemas(value, f"{where}/{key}")


def collect_paragraphs(document: dict[str, Any]) -> set[str]:
    """Return each translatable paragraph of the document."""
    found: set[str] = set()

    def note(text: str) -> str:
        found.update(split_paragraphs(text))
        return text

    map_texts(document, note)
    return found


def collect_error_texts() -> set[str]:
    """Return the texts of the error codes."""
    return {text for one in ERROR_CODES.values() for text in (one.meaning, one.remedy)}


def check_against(schema: dict[str, Any], value: Any, document: dict[str, Any]) -> None:
    """Check a value against a schema whose references are in the document."""
    whole = {"components": document["components"], "allOf": [schema]}
    jsonschema.Draft202012Validator(whole).validate(value)


@pytest.mark.parametrize("query", ["", "?lang=zh"])
def test_the_document_is_valid_openapi_3_1(api: Api, query: str) -> None:
    document = get_document(api, query)
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


def test_every_operation_has_a_name_a_summary_a_description_and_a_tag(
    document: dict[str, Any],
) -> None:
    operations = list(iter_operations(document))
    assert operations
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(tags.values())
    for operation in operations:
        for key in ("operationId", "summary", "description"):
            assert operation.get(key), (operation.get("operationId"), key)
        assert "`" not in operation["summary"], "a summary is plain text, not Markdown"
        assert set(operation["tags"]) <= set(tags), operation["operationId"]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)


def test_every_route_of_the_resources_is_documented(api: Api, document: dict[str, Any]) -> None:
    blueprints = {f"astrbot_api.{resource.name}" for resource in RESOURCES}
    of_the_page = ("/docs/", "/docs/assets/<name>")
    checked = set()
    for rule in api.app.url_map.iter_rules():
        # Paths of AstrBot's dashboard and of OpenAI's clients are aliases of the same routes.
        aliases = ("/api/v1/openai/v1/", "/api/v1/openai/deployments/")
        if not rule.rule.startswith("/api/v1") or rule.rule.startswith(aliases):
            continue
        if rule.endpoint.rpartition(".")[0] in blueprints and not rule.rule.endswith(of_the_page):
            path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
            methods = {method.lower() for method in rule.methods or ()} - {"head", "options"}
            assert methods <= set(document["paths"].get(path, {})), path
            checked.add(path)
    assert checked == set(document["paths"])


def test_every_property_and_parameter_has_a_description(document: dict[str, Any]) -> None:
    schemas = list(iter_schemas(document))
    assert len(schemas) > 30
    assert [where for where, schema in schemas if not schema.get("description")] == []


def test_every_property_and_parameter_has_an_example_that_fits(
    document: dict[str, Any],
) -> None:
    for where, schema in iter_schemas(document):
        # References have their own examples. Single choices and bytes need none.
        if "$ref" in schema or "$ref" in schema.get("items", {}):
            continue
        if len(schema.get("enum", ())) == 1 or schema.get("format") == "binary":
            continue
        assert "example" in schema or "examples" in schema, where
        check = schema.get("schema", schema)
        for example in [schema["example"]] if "example" in schema else schema["examples"]:
            check_against(check, example, document)


def test_every_route_with_a_json_body_lists_the_errors_of_bad_bodies(
    document: dict[str, Any],
) -> None:
    expected = {"malformed_json", "body_too_large", "unsupported_media_type"}
    for operation in iter_operations(document):
        body = operation.get("requestBody", {}).get("content", {})
        # A messenger and an MCP client send bodies in formats of their own.
        if "application/json" not in body or operation["tags"][0] in ("Hooks", "MCP"):
            continue
        texts = [answer["description"] for answer in operation["responses"].values()]
        listed = set(re.findall(r"`([a-z_]+)`", " ".join(texts)))
        assert expected <= listed, (operation["operationId"], expected - listed)


def test_every_error_has_an_example_envelope_for_each_of_its_codes(
    document: dict[str, Any],
) -> None:
    for operation in iter_operations(document):
        errors_found = {
            status: answer for status, answer in operation["responses"].items() if status >= "400"
        }
        assert "500" in errors_found, operation["operationId"]
        for status, answer in errors_found.items():
            content = answer["content"]["application/json"]
            if operation["tags"] == ["OpenAI"]:
                assert content["schema"] == {"$ref": "#/components/schemas/OpenAIError"}
                continue
            if (operation["tags"], status) == (["MCP"], "400"):
                assert "jsonrpc" in content["schema"]["properties"]
                continue
            assert content["schema"] == {"$ref": "#/components/schemas/Error"}
            assert content["examples"], (operation["operationId"], status)
            for code, reference in content["examples"].items():
                name = reference["$ref"].removeprefix("#/components/examples/")
                example = document["components"]["examples"][name]
                assert example["value"]["code"] == code
                assert f"`{code}`" in answer["description"]
                assert STATUS_OF_CODE[code] == int(status)
                check_against(content["schema"], example["value"], document)


def test_every_error_code_is_unique_and_has_all_its_texts() -> None:
    assert len(_TABLE) == len(ERROR_CODES) > 50
    for code, one in ERROR_CODES.items():
        assert one.meaning, code
        assert one.remedy, code
        assert one.example, code
        HTTPStatus(one.status)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("missing_field", {"message": "hi"}),
        ("invalid_request", {"enable_streaming": 1}),
        ("message_empty", {"message": []}),
        ("config_not_found", {"config_id": "support"}),
        ("username_reserved", {"username": "astrbot"}),
        ("body_too_large", {"message": "x" * 5000}),
    ],
)
def test_an_example_envelope_equals_the_servers_response(
    make_api: Callable[..., Api], code: str, body: dict[str, Any]
) -> None:
    api = make_api(ASTRBOT_MAX_JSON_BYTES=4000)
    example = get_document(api)["components"]["examples"][code]["value"]
    sent = body if code == "missing_field" else {"username": "alice", "message": "hi", **body}
    answer = api.post_chat(**sent)
    assert answer.status_code == STATUS_OF_CODE[code]
    envelope = answer.get_json()
    assert envelope["request_id"]
    assert {**envelope, "request_id": example["request_id"]} == example


@pytest.mark.parametrize(
    "path", ["/api/v1/im/bots", "/api/v1/configs", "/api/v1/chat/sessions?username=alice"]
)
def test_responses_match_the_document(api: Api, document: dict[str, Any], path: str) -> None:
    api.chat()
    answer = api.get(path)
    documented = document["paths"][path.partition("?")[0]]["get"]["responses"]["200"]
    check_against(documented["content"]["application/json"]["schema"], answer.json, document)


def test_the_example_of_each_protocol_can_be_tried_after_those_of_the_others(
    api: Api, document: dict[str, Any]
) -> None:
    for path in ("chat", "agui", "aisdk", "openai/chat/completions", "openai/responses"):
        operation = document["paths"][f"/api/v1/{path}"]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        answer = api.post(f"/api/v1/{path}", json=example)
        assert (path, answer.status_code) == (path, 200), answer.get_data()


def test_every_route_but_the_documentation_requires_a_key(
    document: dict[str, Any],
) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["ApiKeyHeader"].items() >= {
        "type": "apiKey", "in": "header", "name": "X-API-Key",
    }.items()  # fmt: skip
    assert schemes["BearerKey"].items() >= {"type": "http", "scheme": "bearer"}.items()
    assert document["security"] == [{"ApiKeyHeader": []}, {"BearerKey": []}]
    open_tags = {resource.tag for resource in RESOURCES if resource.public}
    for operation in iter_operations(document):
        if open_tags & set(operation["tags"]):
            assert operation["security"] == []
        else:
            assert "security" not in operation
            assert {"401", "403"} <= set(operation["responses"])


def test_an_operation_names_the_scope_that_it_needs(document: dict[str, Any]) -> None:
    scope_of = {resource.tag: resource.scope for resource in RESOURCES}
    for operation in iter_operations(document):
        scope = scope_of[operation["tags"][0]]
        assert (f"scope `{scope}`" in operation["description"]) == (scope is not None)


def test_the_limits_of_the_settings_are_in_the_document(make_api: Callable[..., Api]) -> None:
    document = get_document(
        make_api(
            ASTRBOT_MAX_USERNAME_CHARS=11,
            ASTRBOT_MAX_SESSION_ID_CHARS=12,
            ASTRBOT_MAX_MESSAGE_CHARS=13,
            ASTRBOT_MAX_SEGMENTS=14,
            ASTRBOT_MAX_JSON_BYTES=1500,
            ASTRBOT_MAX_TURNS_PER_SESSION=16,
        )
    )
    asked = document["components"]["schemas"]["ChatRequest"]["properties"]
    assert asked["username"]["maxLength"] == 11
    assert asked["session_id"]["maxLength"] == asked["conversation_id"]["maxLength"] == 12
    assert asked["message"]["oneOf"][0]["maxLength"] == 13
    assert asked["message"]["oneOf"][1]["maxItems"] == 14
    chat_post = document["paths"]["/api/v1/chat"]["post"]
    assert "1500 bytes" in chat_post["requestBody"]["description"]
    parameters = document["paths"]["/api/v1/chat/sessions"]["get"]["parameters"]
    limits = {one["name"]: one["schema"].get("maxLength") for one in parameters}
    assert limits["username"] == 11
    examples = document["components"]["examples"]
    assert "limit of 1500 bytes" in examples["body_too_large"]["value"]["message"]
    assert examples["too_many_turns"]["value"]["message"].startswith("16 turns")


def test_a_longer_json_body_than_described_is_rejected(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_MAX_JSON_BYTES=300_000)
    key = api.create_key(*ALL_SCOPES)
    limits = set()
    for path, item in get_document(api)["paths"].items():
        for method, operation in item.items():
            body = operation.get("requestBody") if isinstance(operation, dict) else None
            found = re.fullmatch(
                r"At most (\d+) bytes of JSON\.", (body or {}).get("description", "")
            )
            if found is None:
                continue
            limits.add(int(found[1]))
            answer = api.client.open(
                re.sub("{.*?}", "1", path), method=method, headers={"X-API-Key": key},
                data=b'{"x":"' + b"a" * int(found[1]) + b'"}', content_type="application/json",
            )  # fmt: skip
            assert answer.status_code == 413, (method, path)
            assert str(found[1]) in answer.get_data(as_text=True), (method, path)
    assert limits == {300_000, 256 * 1024}


def test_two_applications_have_their_own_limits_in_the_document(
    make_api: Callable[..., Api],
) -> None:
    apis = [make_api(ASTRBOT_MAX_MESSAGE_CHARS=limit) for limit in (13, 99)]
    found = [
        get_document(api)["components"]["schemas"]["ChatRequest"]["properties"]["message"]
        for api in apis
    ]
    assert [message["oneOf"][0]["maxLength"] for message in found] == [13, 99]


def test_every_body_states_its_limit(document: dict[str, Any]) -> None:
    for operation in iter_operations(document):
        if "requestBody" in operation:
            assert "bytes" in operation["requestBody"]["description"], operation["operationId"]


def test_every_parameter_of_a_route_is_documented(api: Api, document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        shared = {one["name"] for one in item.get("parameters", ())}
        assert set(re.findall(r"{(\w+)}", path)) == shared, path
    # Parameters of a view's doc() must not hide those of its schema.
    download = document["paths"]["/api/v1/file"]["get"]["parameters"]
    assert {one["name"] for one in download} == {"attachment_id", "Range", "If-None-Match"}


def test_every_property_has_a_type_that_generators_know(document: dict[str, Any]) -> None:
    # OpenAPI Generator fails at a property that is only null, and at a constant without a type.
    for where, schema in iter_schemas(document):
        assert schema.get("type") != "null", where
        for one in (schema, *schema.get("anyOf", ())):
            assert "const" not in one or "type" in one, where


def test_nothing_in_the_document_is_unused(api: Api, document: dict[str, Any]) -> None:
    text = api.client.get(DOCUMENT_URL).get_data(as_text=True)
    for kind in set(document["components"]) - {"securitySchemes"}:
        for name in document["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in text, name


def test_times_and_session_ids_have_their_types(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        for key, field in schema.get("properties", {}).items():
            # AstrBot uses seconds in its conversations, OpenAI everywhere.
            if key.endswith("_at") and name != "Conversation" and not name.startswith("OpenAI"):
                assert field.get("format") == "date-time", (name, key)
    session_id = schemas["ChatRequest"]["properties"]["session_id"]
    assert session_id["type"] == ["string", "integer", "null"]


def test_texts_in_bodies_may_be_integers_and_no_parameter_is_null(
    document: dict[str, Any],
) -> None:
    schemas = document["components"]["schemas"]
    for name, key in [
        ("BatchDelete", "username"), ("NewSession", "config_id"), ("RunOwner", "username"),
        ("SessionKeyRequest", "session_id"), ("CompletionRequest", "session_id"),
    ]:  # fmt: skip
        assert schemas[name]["properties"][key]["type"] == ["string", "integer", "null"], name
    for item in document["paths"].values():
        for holder in (item, *item.values()):
            parameters = holder.get("parameters", ()) if isinstance(holder, dict) else ()
            for parameter in parameters:
                assert isinstance(parameter["schema"]["type"], str), parameter["name"]


def test_a_stop_needs_no_body(document: dict[str, Any]) -> None:
    for path in ("/api/v1/chat/runs/{run_id}/stop", "/api/v1/chat/sessions/{session_id}/stop"):
        assert document["paths"][path]["post"]["requestBody"]["required"] is False


def test_options_lists_the_methods_of_the_document(api: Api, document: dict[str, Any]) -> None:
    key = api.create_key(*ALL_SCOPES)
    for path, item in document["paths"].items():
        methods = {one.upper() for one in item} - {"PARAMETERS"}
        told = {"OPTIONS", *methods, *(["HEAD"] if "GET" in methods else [])}
        headers = {"X-API-Key": key}
        answer = api.client.options(re.sub(r"{\w+}", "x", path), headers=headers)
        assert set(answer.headers["Allow"].split(", ")) == told, path


def test_a_reserved_path_is_not_a_session(api: Api) -> None:
    api.chat(session_id="new")
    answer = api.delete("/api/v1/chat/sessions/new?username=alice")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, POST, OPTIONS")


def test_response_schemas_allow_more_fields(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("additionalProperties") is not False, name


def test_every_english_text_has_a_chinese_translation(document: dict[str, Any]) -> None:
    texts = collect_paragraphs(document) | set(PAGE_TEXTS) | collect_error_texts()
    assert [text for text in sorted(texts) if find_key(text, CHINESE) is None] == []


def test_every_chinese_text_is_used(document: dict[str, Any]) -> None:
    texts = collect_paragraphs(document) | set(PAGE_TEXTS) | collect_error_texts()
    used = {find_key(text, CHINESE) for text in texts}
    # Phrases of statuses differ between versions of Python.
    used |= {f"{status.phrase}: {{}}" for status in HTTPStatus}
    used |= {"Content Too Large: {}", "Request Entity Too Large: {}"}
    used |= {"Range Not Satisfiable: {}", "Requested Range Not Satisfiable: {}"}
    assert sorted(set(CHINESE) - used) == []


def test_a_translation_has_the_placeholders_of_its_original() -> None:
    for english, chinese in CHINESE.items():
        gaps = re.findall(r"\{\d*\}", chinese)
        assert len(gaps) == english.count("{}"), english
        if gaps:
            filled = chinese.format(*(f"<{at}>" for at in range(len(gaps))))
            assert all(f"<{at}>" in filled for at in range(len(gaps))), english


def test_every_catalogue_entry_is_unique_translated_and_referenced() -> None:
    assert [language for language in LANGUAGES if not load_catalogue(language)] == ["en"]
    folder = Path(translations.__file__).parent
    text = (folder / "zh" / "LC_MESSAGES" / "messages.po").read_text(encoding="utf-8")
    whole = load_catalogue("zh")
    header = 1
    assert len(re.findall("^msgid ", text, re.MULTILINE)) == len(whole) + header
    assert whole.keys() == (
        CHINESE.keys()
        | load_catalogue("zh", OWNER_PAGES).keys()
        | load_catalogue("zh", WIDGET).keys()
    )
    assert "fuzzy" not in text


@pytest.mark.parametrize("lang", ["zh", "zh-CN", "zh_cn", "ZH", "zh-Hant-TW"])
def test_the_document_is_chinese_on_request(api: Api, lang: str) -> None:
    answer = api.client.get(f"{DOCUMENT_URL}?lang={lang}")
    assert answer.headers["Content-Language"] == "zh-CN"
    document = answer.get_json()
    assert document["paths"]["/api/v1/chat"]["post"]["tags"] == ["聊天"]
    assert document["paths"]["/api/v1/im/bots"]["get"]["summary"] == "列出已配置的机器人的 ID。"
    at_most = document["paths"]["/api/v1/chat"]["post"]["requestBody"]["description"]
    assert at_most == "JSON 格式，最多 8388608 字节。"
    refused = document["paths"]["/api/v1/im/bots"]["get"]["responses"]["401"]["description"]
    assert refused == "未通过身份验证：`missing_api_key`、`invalid_api_key`"


def test_a_translated_document_differs_only_in_its_texts(api: Api) -> None:
    english, chinese = get_document(api), get_document(api, "?lang=zh")
    assert english != chinese
    assert map_texts(english, lambda text: "") == map_texts(chinese, lambda text: "")
    same = collect_paragraphs(english) & collect_paragraphs(chinese)
    assert same == set()


@pytest.mark.parametrize("query", ["", "?lang=", "?lang=fr", "?lang=zhuang", "?lang=%FF"])
def test_the_document_is_english_whatever_the_browser_prefers(api: Api, query: str) -> None:
    document = get_document(api, query, headers={"Accept-Language": "zh-CN"})
    assert document == get_document(api)
    assert document["tags"][0]["name"] == "Chat"


def test_a_translation_is_made_once_per_application(make_api: Callable[..., Api]) -> None:
    one, other = make_api().http.openapi, make_api().http.openapi
    assert one.get("zh") is one.get("zh")
    assert one.get("zh") is not other.get("zh")


def test_the_document_is_built_on_first_request(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    def complete(document: dict[str, Any], *others: Any) -> dict[str, Any]:
        made.append(document)
        return complete_document(document, *others)

    monkeypatch.setattr(documents, "complete_document", complete)
    api = make_api()
    assert not made
    assert get_document(api)["tags"][0]["name"] == "Chat"
    get_document(api, "?lang=zh")
    assert len(made) == 1


def test_a_document_is_rendered_once_per_address_and_few_are_cached(api: Api) -> None:
    kept = api.http.openapi
    first = kept.render("en", "/a")
    assert kept.render("en", "/a") is first
    for number in range(50):
        assert b'"servers":[{"url":"/%d"}]' % number in kept.render("en", f"/{number}")[:100]
    assert kept._rendered.size <= 8


def test_an_unchanged_document_is_not_sent_again(api: Api) -> None:
    first = api.client.get(DOCUMENT_URL)
    again = api.client.get(DOCUMENT_URL, headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    chinese = api.client.get(
        f"{DOCUMENT_URL}?lang=zh", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert chinese.status_code == 200


def test_the_server_urls_are_those_of_the_proxy(make_api: Callable[..., Api]) -> None:
    headers = {"X-Forwarded-Prefix": "/prefix"}
    trusting, wary = make_api(ASTRBOT_PROXY_HOPS=1), make_api()
    assert get_document(trusting, headers=headers)["servers"] == [{"url": "/prefix"}]
    assert get_document(trusting)["servers"] == [{"url": "/"}]
    assert get_document(wary, headers=headers)["servers"] == [{"url": "/"}]


def test_the_paths_have_the_prefix_of_the_settings(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_URL_PREFIX="/bot")
    document = api.client.get("/bot/api/v1/openapi.json").get_json()
    assert all(path.startswith("/bot/api/v1/") for path in document["paths"])
    assert document["servers"] == [{"url": "/"}]


@pytest.mark.parametrize(
    ("query", "accepted", "tag", "title"),
    [
        ("", "", "en", "AstrBot HTTP API"),
        ("", "de, zh-CN;q=0.9, en;q=0.8", "zh-CN", "AstrBot HTTP API 文档"),
        ("", "en-GB, zh;q=0.5", "en", "AstrBot HTTP API"),
        ("", "fr", "en", "AstrBot HTTP API"),
        ("?lang=zh", "en", "zh-CN", "AstrBot HTTP API 文档"),
        ("?lang=en", "zh", "en", "AstrBot HTTP API"),
        ("?lang=fr", "zh-TW", "zh-CN", "AstrBot HTTP API 文档"),
    ],
)
def test_the_page_is_in_the_readers_language(
    api: Api, query: str, accepted: str, tag: str, title: str
) -> None:
    answer = api.client.get(f"/api/v1/docs{query}", headers={"Accept-Language": accepted})
    assert f'<html lang="{tag}">' in answer.text
    assert f"<title>{title}</title>" in answer.text
    assert answer.headers["Content-Language"] == tag
    assert answer.headers["Vary"] == "Accept-Language"


def test_the_page_loads_nothing_from_other_origins(api: Api) -> None:
    answer = api.client.get("/api/v1/docs")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    addresses = re.findall(r'(?:href|src)="([^"]*)"', answer.text)
    assert addresses
    assert [one for one in addresses if not one.startswith(("docs", "openapi.json"))] == []


def test_every_asset_of_the_page_is_served_and_cached_for_an_hour(api: Api) -> None:
    page = api.client.get("/api/v1/docs").text
    assets = re.findall(r'"(docs/assets/[^"]*)"', page)
    assert len(assets) == 5
    for asset in assets:
        answer = api.client.get(f"/api/v1/{asset}")
        assert answer.status_code == 200, asset
        assert answer.cache_control.public
        assert answer.cache_control.max_age == 3600
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        tag = answer.headers["ETag"]
        answer.close()
        again = api.client.get(f"/api/v1/{asset}", headers={"If-None-Match": tag})
        assert again.status_code == 304, asset


@pytest.mark.parametrize("name", ["nothing.js", "..%2Froutes.py", "%2e%2e", "index.css"])
def test_an_unknown_asset_is_a_404_in_json(api: Api, name: str) -> None:
    answer = api.get(f"/api/v1/docs/assets/{name}")
    assert answer.status_code == 404
    assert answer.get_json()["code"] == "path_not_found"


def test_a_trailing_slash_redirects_to_the_page(api: Api) -> None:
    answer = api.client.get("/api/v1/docs/?lang=zh")
    assert answer.status_code == 308
    assert answer.headers["Location"] == "../docs?lang=zh"
