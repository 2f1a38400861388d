"""Two tenants on one server cannot read, change or spend each other's data.

The requests are generated from the OpenAPI document. Each operation is sent all ids of the victim,
one at a time and together. The senders are the other tenant's key, its session key, a session key
of the victim's key for another user, and a revoked key. An operation with an id that :data:`VALUES`
lacks fails, and so does a table that :func:`snapshot` does not know.
"""

from __future__ import annotations

import io
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import peewee
import pytest

from astrbot_api.db import keys
from astrbot_api.db.models import ALL_MODELS
from astrbot_api.db.models.deliveries import Delivery
from astrbot_api.db.models.files import (
    Attachment,
    AttachmentTotal,
    FileChunk,
    FileUpload,
    MessageAttachment,
)
from astrbot_api.db.models.keys import ApiKey, ApiKeyScope, KeyStored, KeyUse, Visit
from astrbot_api.db.models.runs import (
    IdempotentRequest,
    ResponseConversation,
    Run,
    RunApproval,
    RunCheckpoint,
    StoredResponse,
)
from astrbot_api.db.models.sessions import ChatSession, Message, Note, SessionCount, SessionSummary
from astrbot_api.keys.rules import read_rules

from ..servers import MOCK_CONFIG, add_config
from ..websocket import WebSocketClient, handshake
from .conftest import Api
from .test_guard_rails import mint

#: Occurs in all texts and names of the victim, and in no id.
SECRET = "only-for-the-victim"

_SCOPES = (*keys.PUBLIC_SCOPES, "bot", "provider", "persona", "data", "plugin", "mcp", "skill")

#: Operations that another test covers.
_ELSEWHERE = {"openChatWebSocket": "a test client has no socket: see the tests of frames below"}

#: Operations whose response never ends: only the first chunks are read.
_PIECES = 4


@dataclass
class Tenant:
    """A key that is bound to the usernames of one tenant, with its data."""

    username: str
    key: str
    key_id: str
    session_key: str
    ids: dict[str, str] = field(default_factory=dict)
    #: Number of the session's row.
    session: int = 0
    session_key_id: str = ""


#: Name of a parameter or body field -> its value of a tenant. Other fields have their documented
#: example. Prefix ``openai:``: below ``/openai``, where the name has another meaning.
VALUES: dict[str, Callable[[Tenant], Any]] = {
    "username": lambda one: one.username,
    "user": lambda one: one.username,
    "session_id": lambda one: one.ids["session"],
    "session_ids": lambda one: [one.ids["session"]],
    "conversation_id": lambda one: one.ids["session"],
    "run_id": lambda one: one.ids["run"],
    "decision": lambda one: "reject",
    "message_id": lambda one: one.ids["message"],
    "attachment_id": lambda one: one.ids["file"],
    "file_id": lambda one: one.ids["file"],
    "delivery_id": lambda one: one.ids["delivery"],
    "upload_id": lambda one: one.ids["upload"],
    "Idempotency-Key": lambda one: one.ids["word"],
    "umo": lambda one: f"webchat:FriendMessage:webchat!{one.username}!{one.ids['session']}",
    "umos": lambda one: [VALUES["umo"](one)],
    "message": lambda one: [
        {"type": "plain", "text": "see"},
        {"type": "image", "attachment_id": one.ids["file"]},
        {"type": "reply", "message_id": one.ids["message"], "selected_text": ""},
    ],
    "content": lambda one: {"message": VALUES["message"](one)},
    "im:message": lambda one: VALUES["message"](one)[:2],
    "files:filename": lambda one: f"{one.ids['file']}.txt",
    "aisdk:id": lambda one: one.ids["session"],
    "aisdk:chat_id": lambda one: one.ids["session"],
    "aisdk:messages": lambda one: [VALUES["aisdk:message"](one)],
    "aisdk:message": lambda one: {
        "id": "m1",
        "role": "user",
        "parts": [
            {"type": "text", "text": "see"},
            {
                "type": "file",
                "mediaType": "text/plain",
                "url": f"/api/v1/files/{one.ids['file']}/content",
            },
        ],
    },
    "agui:threadId": lambda one: one.ids["session"],
    "agui:runId": lambda one: one.ids["run"],
    "agui:parentRunId": lambda one: one.ids["run"],
    "agui:messages": lambda one: [
        {
            "id": "m1",
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "document", "source": {"type": "file", "value": one.ids["file"]}},
            ],
        }
    ],
    "mcp:id": lambda one: 1,
    "mcp:params": lambda one: {
        "name": "chat",
        "arguments": {"message": "see", "session_id": one.ids["session"]},
        "uri": f"astrbot://sessions/{one.ids['session']}",
    },
    "openai:conversation_id": lambda one: one.ids["conversation"],
    "openai:conversation": lambda one: one.ids["conversation"],
    "openai:response_id": lambda one: one.ids["response"],
    "openai:previous_response_id": lambda one: one.ids["response"],
    "openai:item_id": lambda one: one.ids["item"],
    "openai:input": lambda one: [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "see"},
                {"type": "input_file", "file_id": one.ids["file"]},
            ],
        }
    ],
    "messages": lambda one: [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "file", "file": {"file_id": one.ids["file"]}},
            ],
        }
    ],
}

#: Fields that may contain a file's id or name.
_WITH_FILES = ("attachment_id", "file_id", "filename", "message", "messages", "content", "input")

#: Ids of the server, the same for all tenants.
_SERVERS_OWN = {
    # Ids of a run, which are only found through the run: see test_approvals.py.
    "approval_id",
    "bot_id", "config_id", "platform_id", "tool_call_id", "model", "name", "request_id",
    "prompt_cache_key", "messageId",
}  # fmt: skip

_LOOKS_LIKE_AN_ID = re.compile(
    r"(^|_)(id|ids|key|umo|umos|username|user|session|conversation)$|[a-z]Ids?$"
)


@dataclass(frozen=True)
class Operation:
    """One operation of the document, with its parameters and fields."""

    name: str
    method: str
    path: str
    places: Mapping[str, str]
    body: Mapping[str, Any]
    kind: str

    @property
    def named(self) -> list[str]:
        """Parameters and fields that belong to a tenant."""
        return [name for name in (*self.places, *self.body) if self.find_value(name)]

    def find_value(self, name: str) -> Callable[[Tenant], Any] | None:
        """Return the function that sets a parameter or field to a tenant's value."""
        area = self.path.removeprefix("/api/v1/").partition("/")[0]
        return VALUES.get(f"{area}:{name}", VALUES.get(name))


def read_operations(document: dict[str, Any]) -> list[Operation]:
    found = []
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            if method not in ("get", "post", "put", "patch", "delete"):
                continue
            given = [*methods.get("parameters", ()), *one.get("parameters", ())]
            places = {item["name"]: item["in"] for item in map(_deref(document), given)}
            content = one.get("requestBody", {}).get("content", {})
            kind = next(iter(content), "")
            schema = _deref(document)(content[kind]["schema"]) if kind else {}
            body = {
                name: _deref(document)(value).get("example")
                for name, value in schema.get("properties", {}).items()
            }
            body |= content[kind].get("example", {}) if kind else {}
            found.append(Operation(one["operationId"], method.upper(), path, places, body, kind))
    return found


def _deref(document: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def follow(one: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in one:
            target: Any = document
            for part in one["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            one = target
        return one

    return follow


#: Fields whose example does not exist on this server, so the request would be rejected.
_ABSENT = frozenset({"selected_provider", "selected_model"})

#: Mutually exclusive fields.
_EXCLUSIVE = (
    ("umos", "umo"),
    ("conversation_id", "session_id"),
    ("conversation", "previous_response_id"),
    ("message", "messages"),
)


def find_value(
    operation: Operation, name: str, example: Any, own: Tenant, of: Mapping[str, Tenant]
) -> Any:
    find = operation.find_value(name)
    return example if find is None else find(of.get(name, own))


def make_json(operation: Operation, own: Tenant, of: Mapping[str, Tenant]) -> dict[str, Any]:
    """Return the body of an operation; see :func:`send`."""
    body = {
        name: find_value(operation, name, example, own, of)
        for name, example in operation.body.items()
    }
    # Two names of the same field: send only one, like a client.
    for one, other in _EXCLUSIVE:
        if one in body and other in body and of.get(one) is of.get(other):
            del body[one]
    return {
        name: found for name, found in body.items() if found is not None and name not in _ABSENT
    }


def send(api: Api, operation: Operation, key: str, own: Tenant, of: Mapping[str, Tenant]) -> Any:
    """Send an operation, and return the status and the whole response.

    :param own: Tenant of the values that are not in ``of``.
    :param of: Name of a parameter or field -> tenant of its value.
    """

    def value(name: str, example: Any) -> Any:
        return find_value(operation, name, example, own, of)

    path, query, headers = operation.path, {}, {"X-API-Key": key}
    for name, place in operation.places.items():
        found = value(name, {"lang": "en", "size": 64}.get(name))
        if found is None and place != "path":
            continue
        if place == "path":
            path = path.replace(f"{{{name}}}", str(found or "default"))
        elif place == "query":
            query[name] = found
        elif operation.find_value(name):
            headers[name] = found
    options: dict[str, Any] = {}
    body = {name: value(name, example) for name, example in operation.body.items()}
    if operation.kind == "application/json":
        options["json"] = make_json(operation, own, of)
    elif operation.kind == "multipart/form-data":
        names = {"file": "a.txt", "chunk": "chunk"}
        options["data"] = {
            name: (io.BytesIO(b"bytes"), names[name]) if name in names else str(found)
            for name, found in body.items()
        }
    answer = api.client.open(
        path, method=operation.method, query_string=query, headers=headers, **options
    )
    try:
        pieces = []
        for number, piece in enumerate(answer.iter_encoded()):
            pieces.append(piece)
            if answer.is_streamed and "event-stream" in str(answer.content_type) and number > 50:
                break
            if number >= _PIECES and operation.name == "openChatInbox":
                break
        return answer.status_code, b"".join(pieces).decode(errors="replace") + str(answer.headers)
    finally:
        answer.close()


def make_tenant(api: Api, name: str) -> Tenant:
    """Create a key that is bound to the names ``NAME-…``, and one of each resource."""
    rules = read_rules(
        {"username_prefix": f"{name}-", "umos": [f"webchat:FriendMessage:webchat!{name}-*"]}
    )
    row, secret = api.state.db.write(
        lambda db: keys.create_key(db, name, _SCOPES, created_by="test", rules=rules.dump())
    )
    tenant = Tenant(f"{name}-alice", secret, row["key_id"], "")
    made = mint(api, secret, username=tenant.username).json["data"]
    tenant.session_key, tenant.session_key_id = made["api_key"], made["key_id"]
    fill(api, tenant)
    return tenant


def fill(api: Api, tenant: Tenant) -> None:
    """Create a session, a run, messages, files, an upload and a delivery of a tenant."""
    headers = {"X-API-Key": tenant.session_key}
    words = SECRET if tenant.username.startswith("victim") else "of the other"

    def post(path: str, **options: Any) -> Any:
        more = options.pop("more", {})
        answer = api.client.post(f"/api/v1{path}", headers={**headers, **more}, **options)
        assert answer.status_code in (200, 202), answer.get_data()
        return answer.json["data"]

    def openai(path: str, **body: Any) -> Any:
        answer = api.client.open(
            f"/api/v1/openai{path}", method="POST" if body else "GET", headers=headers,
            json=body or None,
        )  # fmt: skip
        assert answer.status_code == 200, answer.get_data()
        return answer.json

    file = (io.BytesIO(f"bytes {words} {uuid.uuid4()}".encode()), f"{words}.txt")
    ids = {"file": post("/file", data={"file": file})["attachment_id"], "word": str(uuid.uuid4())}
    unused = (io.BytesIO(f"unused {words} {uuid.uuid4()}".encode()), f"{words}.txt")
    ids["unused"] = post("/file", data={"file": unused})["attachment_id"]
    ids["session"] = str(uuid.uuid4())
    turn = {
        "username": tenant.username, "session_id": ids["session"], "response_mode": "blocking",
        "message": [
            {"type": "plain", "text": f"ECHO {words}"},
            {"type": "file", "attachment_id": ids["file"]},
        ],
    }  # fmt: skip
    done = post("/chat", json=turn, more={"Idempotency-Key": ids["word"]})
    ids["run"] = done["run_id"]
    title = {"username": tenant.username, "display_name": words}
    path = f"/api/v1/chat/sessions/{ids['session']}"
    assert api.client.patch(path, headers=headers, json=title).status_code == 200
    push = {"umo": VALUES["umo"](Tenant(tenant.username, "", "", "", ids)), "message": words}
    im = {"X-API-Key": tenant.key}  # session keys do not have this scope
    ids["delivery"] = post("/im/message", json=push, more=im)["delivery_id"]
    if tenant.ids:  # the limit of open ones
        old = {"upload_id": tenant.ids["upload"]}
        api.client.post("/api/v1/files/upload/abort", headers=headers, json=old)
    begun = post("/files/upload/init", json={"filename": f"{words}.bin", "total_size": 5})
    ids["upload"] = begun["upload_id"]
    input = [{"role": "user", "content": [{"type": "input_text", "text": f"ECHO {words}"}]}]
    conversation = openai("/conversations", metadata={"words": words}, user=tenant.username)
    ids["conversation"] = conversation["id"]
    asked = {"model": "default", "input": input, "user": tenant.username}
    ids["response"] = openai("/responses", **asked, conversation=ids["conversation"])["id"]
    items = openai(f"/conversations/{ids['conversation']}/items")["data"]
    ids["item"] = items[0]["id"]
    chunk = {"upload_id": ids["upload"], "chunk_index": "0", "chunk": (io.BytesIO(b"12345"), "c")}
    post("/files/upload/chunk", data=chunk)
    with api.state.db.read() as db:
        row = ChatSession.select(ChatSession.id).where(ChatSession.session_id == ids["session"])
        tenant.session = row.scalar(db)
        first = Message.select(Message.id).where(Message.session == tenant.session)
        tenant.ids = ids
        ids["message"] = str(first.order_by(Message.id).limit(1).scalar(db))


#: Tables without data of callers.
_OTHERS = {
    "deleted_session", "worker", "stray_blob", "owner", "owner_session", "login_failure", "audit",
    "legacy_key", "imported_item", "imported_message", "inbound_event", "inbound_pending",
    "bot_lease", "file_text", "rate_count",
}  # fmt: skip


def snapshot(db: peewee.Database, one: Tenant, *, counts: bool = True) -> dict[str, Any]:
    """Return every row of a tenant, by table.

    :param counts: Whether to include the counters of its key.
    """
    own_keys = ApiKey.select(ApiKey.key_id).where(
        (ApiKey.key_id == one.key_id) | (ApiKey.parent_id == one.key_id)
    )
    of_session = Message.select(Message.id).where(Message.session == one.session)
    owned = {
        ApiKeyScope: ApiKeyScope.key_id == one.key_id,
        ChatSession: ChatSession.creator == one.username,
        SessionCount: SessionCount.creator == one.username,
        Message: Message.session == one.session,
        SessionSummary: SessionSummary.session == one.session,
        MessageAttachment: MessageAttachment.message.in_(of_session),
        Run: Run.session == one.session,
        RunApproval: RunApproval.run.in_(Run.select(Run.id).where(Run.session == one.session)),
        RunCheckpoint: RunCheckpoint.run.in_(Run.select(Run.id).where(Run.session == one.session)),
        Attachment: Attachment.attachment_id.in_((one.ids["file"], one.ids["unused"])),
        Delivery: Delivery.delivery_id == one.ids["delivery"],
        FileUpload: FileUpload.upload_id == one.ids["upload"],
        FileChunk: FileChunk.upload_id == one.ids["upload"],
        IdempotentRequest: (IdempotentRequest.client_key == one.ids["word"])
        & (IdempotentRequest.key_id == one.session_key_id),
        Note: Note.username == one.username,
        Visit: Visit.root_id == one.key_id,
        StoredResponse: StoredResponse.entry_id == one.ids["response"],
        ResponseConversation: ResponseConversation.session.in_(
            StoredResponse.select(StoredResponse.session).where(
                StoredResponse.entry_id == one.ids["response"]
            )
        ),
    }
    counted = {
        ApiKey: ApiKey.key_id == one.key_id,
        AttachmentTotal: AttachmentTotal.key_id.in_(own_keys),
        KeyStored: KeyStored.key_id.in_(own_keys),
        KeyUse: KeyUse.key_id.in_(own_keys),
    }
    known = {model._meta.table_name for model in (*owned, *counted)} | _OTHERS
    unknown = {model._meta.table_name for model in ALL_MODELS} - known
    assert not unknown, f"say whose the rows of {unknown} are, or that they are nobody's"
    found = {}
    for model, where in {**owned, **(counted if counts else {})}.items():
        found[model._meta.table_name] = sorted(
            map(repr, model.select().where(where).tuples().execute(db))
        )
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    from astrbot_api import create_app

    folder = tmp_path_factory.mktemp("tenants")
    add_config(folder, MOCK_CONFIG)
    settings = {"ASTRBOT_DATA_DIR": str(folder), "ASTRBOT_HEARTBEAT_S": "0.05"}
    api = Api(create_app(settings))
    yield api
    api.close()


@pytest.fixture(scope="module")
def victim(world: Api) -> Tenant:
    return make_tenant(world, "victim")


@pytest.fixture(scope="module")
def other(world: Api) -> Tenant:
    return make_tenant(world, "other")


@pytest.fixture(scope="module")
def operations(world: Api) -> list[Operation]:
    document = world.client.get("/api/v1/openapi.json").get_json()
    found = read_operations(document)
    return [one for one in found if one.name not in _ELSEWHERE]


def test_every_id_of_the_document_has_a_value(operations: list[Operation]) -> None:
    unknown = {
        f"{one.name}: {name}"
        for one in operations
        for name in (*one.places, *one.body)
        if _LOOKS_LIKE_AN_ID.search(name) or one.places.get(name) == "path"
        if not one.find_value(name) and name not in _SERVERS_OWN
    }
    assert not unknown, "give them a value of a tenant in VALUES, or name them in _SERVERS_OWN"


def list_attacks(operation: Operation, of: Tenant) -> Iterator[dict[str, Tenant]]:
    """Yield the tenants of a request's values: all the victim's, all but the name, or only one."""
    names = operation.named
    yield dict.fromkeys(names, of)
    yield {name: of for name in names if name not in ("username", "user")}
    if len(names) > 2:
        yield from ({name: of} for name in names)
    # A file that no message uses yet, with otherwise the attacker's own values.
    unused = replace(of, ids={**of.ids, "file": of.ids["unused"]})
    for name in names:
        if name in _WITH_FILES:
            yield {name: unused}


def check_answer(answer: tuple[int, str], operation: Operation, sent: Mapping[str, Tenant]) -> None:
    status, text = answer
    assert status < 500 or status in (501, 504), (operation.name, answer)
    assert SECRET not in text, (operation.name, list(sent), answer)
    for victim in {one.username: one for one in sent.values()}.values():
        known = str([operation.find_value(name)(victim) for name in sent])  # type: ignore[misc]
        for name, one in victim.ids.items():
            if name != "message" and one not in known:
                assert one not in text, (operation.name, list(sent), name, answer)


def settle(api: Api) -> None:
    """Write buffered data and finish running jobs."""
    api.state.chat.runs.wait_until_idle(5)
    api.state.keys.usage.flush()


@pytest.mark.parametrize("who", ["key", "session key"])
def test_no_operation_reaches_data_of_another_tenant(
    world: Api, victim: Tenant, other: Tenant, operations: list[Operation], who: str
) -> None:
    settle(world)
    with world.state.db.read() as db:
        before = snapshot(db, victim)
    for operation in operations:
        key = other.key if who == "key" else other.session_key
        for sent in list_attacks(operation, victim):
            check_answer(send(world, operation, key, other, sent), operation, sent)
        if operation.method != "GET":
            fill(world, other)  # its own may be deleted
        settle(world)
        with world.state.db.read() as db:
            assert snapshot(db, victim) == before, operation.name


def test_no_operation_reaches_data_of_another_user_of_the_same_key(
    world: Api, victim: Tenant, operations: list[Operation]
) -> None:
    name = "victim-carol"
    key = mint(world, victim.key, username=name).json["data"]["api_key"]
    own = Tenant(name, key, victim.key_id, key)
    own.ids = {name: str(uuid.uuid4()) for name in victim.ids} | {"message": "1"}
    settle(world)
    with world.state.db.read() as db:
        before = snapshot(db, victim, counts=False)
    for operation in operations:
        for sent in list_attacks(operation, victim):
            check_answer(send(world, operation, own.session_key, own, sent), operation, sent)
        settle(world)
        with world.state.db.read() as db:
            assert snapshot(db, victim, counts=False) == before, operation.name


def talk(port: int, key: str, frame: dict[str, Any]) -> str:
    """Send a frame over a new WebSocket and return all responses."""
    with WebSocketClient(port, handshake(key)) as client:
        assert client.status == 101
        client.send(frame)
        said = [client.receive()]
        while said[-1]["type"] not in ("end", "error"):
            said.append(client.receive())
        return json.dumps(said, ensure_ascii=False)


@pytest.mark.parametrize("who", ["key", "session key", "session key of the victim's"])
def test_no_frame_reaches_data_of_another_tenant(
    world: Api,
    victim: Tenant,
    other: Tenant,
    operations: list[Operation],
    serve: Callable[[Api], int],
    who: str,
) -> None:
    own, key = other, other.key if who == "key" else other.session_key
    if who not in ("key", "session key"):
        name = "victim-dora"
        key = mint(world, victim.key, username=name).json["data"]["api_key"]
        own = Tenant(name, key, victim.key_id, key)
        own.ids = {name: str(uuid.uuid4()) for name in victim.ids} | {"message": "1"}
    port, counts = serve(world), own is other
    settle(world)
    with world.state.db.read() as db:
        before = snapshot(db, victim, counts=counts)
    # A frame has the fields of the streaming chat request.
    (chat,) = (one for one in operations if (one.method, one.path) == ("POST", "/api/v1/chat"))
    for sent in list_attacks(chat, victim):
        frame = {"t": "send", **make_json(chat, own, sent)}
        check_answer((101, talk(port, key, frame)), chat, sent)
    settle(world)
    with world.state.db.read() as db:
        assert snapshot(db, victim, counts=counts) == before


def test_a_frame_with_ones_own_ids_is_answered(
    world: Api, other: Tenant, operations: list[Operation], serve: Callable[[Api], int]
) -> None:
    """Otherwise the test above would prove nothing."""
    (chat,) = (one for one in operations if (one.method, one.path) == ("POST", "/api/v1/chat"))
    fill(world, other)
    said = talk(serve(world), other.key, {"t": "send", **make_json(chat, other, {})})
    assert '"type": "end"' in said, said
    assert '"type": "error"' not in said, said


def test_a_revoked_key_has_no_access(
    world: Api, victim: Tenant, operations: list[Operation]
) -> None:
    row, secret = world.state.db.write(
        lambda db: keys.create_key(db, "revoked", _SCOPES, created_by="test")
    )
    session_key = mint(world, secret, username=victim.username).json["data"]["api_key"]
    world.state.db.write(lambda db: keys.revoke_key(db, row["key_id"]))
    settle(world)
    with world.state.db.read() as db:
        before = snapshot(db, victim)
    for operation in operations:
        document = world.client.get("/api/v1/openapi.json").get_json()
        one = document["paths"][operation.path][operation.method.lower()]
        if one.get("security") == []:
            continue
        for key in (secret, session_key):
            status, text = send(world, operation, key, victim, {})
            assert (status, SECRET in text) == (401, False), operation.name
    settle(world)
    with world.state.db.read() as db:
        assert snapshot(db, victim) == before


def test_the_requests_succeed_for_their_own_tenant(
    world: Api, other: Tenant, operations: list[Operation]
) -> None:
    """Their own tenant is served. Otherwise the tests above would prove nothing."""
    refused = {}
    for operation in operations:
        if operation.method != "GET":
            fill(world, other)
        status, text = send(world, operation, other.key, other, {})
        if status in (400, 405, 411, 415, 422):
            refused[operation.name] = text[:200]
    assert refused == {}


def test_a_session_is_not_readable_by_another_tenant(
    world: Api, victim: Tenant, other: Tenant
) -> None:
    """MCP's single operation depends on the method in its body."""
    uri = f"astrbot://sessions/{victim.ids['session']}"
    for method in ("resources/read", "resources/list"):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"uri": uri}}
        texts = [
            world.client.post(
                "/api/v1/mcp",
                json=body,
                headers={"X-API-Key": key},
                query_string={"username": username},
            ).text
            for key in (other.key, other.session_key)
            for username in (victim.username, other.username)
        ]
        assert [text for text in texts if SECRET in text] == [], method
    body["method"] = "resources/read"
    own = {"X-API-Key": victim.session_key}
    assert SECRET in world.client.post("/api/v1/mcp", json=body, headers=own).text
