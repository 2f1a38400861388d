"""Approvals in OpenAI's own format, with its own client."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from astrbot_api import Tool
from astrbot_api.agent.provider import Delta, TextDelta, ToolCallDelta, Usage
from astrbot_api.chores import prune_journal
from astrbot_api.db import keys, responses
from astrbot_api.errors import StorageError
from astrbot_api.runtime.clock import now_us

from ..waiting import wait_for
from .conftest import Api
from .openai_responses import Make, post, stream_again
from .test_openai import connect
from .test_runs import wait_until_journaled

ASKS: Any = [{"type": "mcp", "server_label": "astrbot", "require_approval": "always"}]


class Shop:
    """An application that pays after a person has approved it."""

    def __init__(self, make_scripted: Make, *, calls: int = 1, rounds: int = 1, **options: Any):
        self.paid: list[Any] = []
        self.calls, self.rounds = calls, rounds
        pay = Tool("pay", "Pay.", self._pay, needs_approval=True)
        look = Tool("look", "Look.", lambda arguments, context: "5")
        self.api, self.model = make_scripted(self._answer, tools=[pay, look], **options)
        self.client = connect(self.api)

    def _pay(self, arguments: Any, context: Any) -> str:
        self.paid.append(arguments["amount"])
        return f"paid {arguments['amount']}"

    def _answer(self, messages: Any) -> Iterator[Delta]:
        last = messages[-1]
        if last["role"] == "user" and last["content"] != "buy":
            yield TextDelta(f"You said: {last['content']}")
            return
        results = [one["content"] for one in messages if one["role"] == "tool"]
        done = sum("paid" in one or "rejected" in one for one in results)
        if done < self.calls * self.rounds:
            yield TextDelta("I will pay.")
            for number in range(self.calls):
                amount = f'{{"amount": {done + number + 5}}}'
                yield ToolCallDelta(number, f"pay{done + number}", "pay", amount)
            yield ToolCallDelta(self.calls, f"look{done}", "look", "{}")
        else:
            yield TextDelta(f"Done: {len(results)}")
            yield Usage(10, 2, 3)

    def ask(self, given: Any = "buy", **options: Any) -> Any:
        asked = {"model": "default", "input": given, "tools": ASKS, **options}
        return self.client.responses.create(**asked)

    def answer(self, asking: Any, approve: bool = True, **options: Any) -> Any:
        given = [say(one.id, approve) for one in asking.output if one.type == REQUEST]
        return self.ask(given, **{"previous_response_id": asking.id, **options})


REQUEST = "mcp_approval_request"


def say(item_id: str, approve: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "type": "mcp_approval_response", "approval_request_id": item_id, "approve": approve, **more,
    }  # fmt: skip


def kinds(response: Any) -> list[str]:
    return [one.type for one in response.output]


def test_an_approved_call_is_made_in_the_next_response(make_scripted: Make) -> None:
    shop = Shop(make_scripted)
    first = shop.ask(user="alice")
    assert (first.status, kinds(first)) == ("completed", ["message", "mcp_call", REQUEST])
    asked = first.output[-1]
    assert (asked.name, asked.server_label) == ("pay", "astrbot")
    assert json.loads(asked.arguments) == {"amount": 5}
    assert shop.client.responses.retrieve(first.id).output == first.output
    assert shop.paid == []

    second = shop.answer(first)
    assert shop.paid == [5]
    assert (second.status, kinds(second)) == ("completed", ["mcp_call", "message"])
    call = second.output[0]
    assert (call.approval_request_id, call.output) == (asked.id, "paid 5")
    assert second.output_text == "Done: 2"
    assert second.previous_response_id == first.id
    assert second.id != first.id
    with shop.api.state.db.read() as db:
        rows = db.execute_sql("SELECT action, actor FROM audit WHERE action = 'call_approved'")
        assert rows.fetchall() == [("call_approved", "alice")]

    for response in (first, second):
        again = shop.client.responses.retrieve(response.id)
        assert (again.output, again.status) == (response.output, "completed")
    (item,) = shop.client.responses.input_items.list(second.id)
    assert (item.type, item.approve) == ("mcp_approval_response", True)  # type: ignore[union-attr]

    third = shop.ask("thanks", previous_response_id=second.id)
    assert third.output_text == "You said: thanks"
    seen = [one["role"] for one in shop.model.seen[-1] if one["role"] != "system"]
    assert seen == ["user", "assistant", "tool", "tool", "assistant", "user"], "nothing twice"


def test_streams_contain_the_approval_request_and_the_result(make_scripted: Make) -> None:
    shop = Shop(make_scripted)
    events = list(shop.ask(stream=True))
    assert events[-1].type == "response.completed"
    assert [one.type for one in events[-3:-1]] == [
        "response.output_item.added", "response.output_item.done",
    ]  # fmt: skip
    for one in events[-3:-1]:
        assert (one.item.type, one.item.model_extra) == (REQUEST, {}), "as in the client's types"
    added = [one.item.type for one in events if one.type == "response.output_item.added"]
    assert added == kinds(events[-1].response), "the call is not shown before its question"
    rest = list(shop.answer(events[-1].response, stream=True))
    assert rest[-1].type == "response.completed"
    for stream in (events, rest):
        assert [one.sequence_number for one in stream] == list(range(len(stream)))
    text = "".join(one.delta for one in rest if one.type == "response.output_text.delta")
    assert text == "Done: 2"
    done = [one.item for one in rest if one.type == "response.output_item.done"]
    assert done == rest[-1].response.output
    again = stream_again(shop.api, rest[-1].response.id)
    assert [one["type"] for one in again] == [one.type for one in rest]
    first = stream_again(shop.api, events[-1].response.id)
    assert first[-1]["type"] == "response.completed"
    assert [one["type"] for one in first[-1]["response"]["output"]] == added


def test_the_model_is_informed_of_a_rejection_and_its_reason(make_scripted: Make) -> None:
    shop = Shop(make_scripted)
    first = shop.ask()
    asked = first.output[-1].id
    second = shop.ask([say(asked, False, reason="too much")], previous_response_id=first.id)
    assert "rejected: too much" in second.output[0].output
    assert shop.paid == []


def test_background_responses_end_at_a_request_and_continue_after_it(make_scripted: Make) -> None:
    shop = Shop(make_scripted)

    def wait(response: Any) -> Any:
        def ended() -> Any:
            found = shop.client.responses.retrieve(response.id)
            return found if found.status not in ("queued", "in_progress") else None

        return wait_for(ended)

    first = wait(shop.ask(background=True))
    assert first.output[-1].type == REQUEST
    second = wait(shop.answer(first, background=True))
    assert (second.status, kinds(second)) == ("completed", ["mcp_call", "message"])


def test_several_calls_are_decided_together_and_a_turn_may_ask_again(
    make_scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.chat.resuming.following._CLOSING_US", 0)
    shop = Shop(make_scripted, calls=2, rounds=2)
    first = shop.ask()
    asked = [one.id for one in first.output if one.type == REQUEST]
    assert len(asked) == 2
    with pytest.raises(openai.BadRequestError, match=f"{asked[1]} has no answer"):
        shop.ask([say(asked[0])], previous_response_id=first.id)
    assert shop.paid == []
    second = shop.answer(first)
    assert kinds(second) == ["mcp_call", "mcp_call", "message", "mcp_call", REQUEST, REQUEST]
    third = shop.answer(second)
    assert kinds(third) == ["mcp_call", "mcp_call", "message"]
    assert sorted(shop.paid) == [5, 6, 7, 8]
    wait_until_ended(shop, third)
    for response in (first, second, third):
        again = shop.client.responses.retrieve(response.id)
        assert [one.id for one in again.output] == [one.id for one in response.output]
        last = stream_again(shop.api, response.id)[-1]["response"]
        assert last == again.to_dict(), "also after its events were deleted"


def wait_until_ended(shop: Shop, response: Any) -> None:
    """Wait until a run's events are stored, then delete them."""
    with shop.api.state.db.read() as db:
        entry = responses.find_entry(db, response.id.removeprefix("resp_"))
    assert entry is not None
    wait_until_journaled(shop.api, entry.run_id)
    prune_journal(shop.api.state.worker.journal, 0)


def test_a_repeated_request_returns_the_same_response(make_scripted: Make) -> None:
    shop = Shop(make_scripted)
    first = shop.ask()
    second = shop.answer(first)
    again = shop.answer(first)
    assert (again.id, again.output) == (second.id, second.output)
    assert shop.paid == [5]
    with pytest.raises(openai.ConflictError, match="already decided"):
        shop.answer(first, approve=False)


def test_a_call_decided_elsewhere_or_expired_is_not_decided_again(make_scripted: Make) -> None:
    shop = Shop(make_scripted)
    first = shop.ask()
    run = f"/api/v1/chat/runs/{uuid.UUID(first.id.removeprefix('resp_'))}"
    (asked,) = shop.api.get(run).get_json()["data"]["approvals"]
    shop.api.post(f"{run}/approvals/{asked['id']}", json={"decision": "reject"})
    with pytest.raises((openai.ConflictError, openai.NotFoundError)) as caught:
        shop.answer(first)
    assert caught.value.code in ("approval_decided", "approval_not_found")
    whole = wait_for(lambda: is_whole(shop.client.responses.retrieve(first.id)))
    assert kinds(whole)[-1] == "message", "the response itself has the rest then"
    assert shop.paid == []


def test_a_response_that_cannot_be_stored_decides_nothing(
    make_scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(make_scripted, calls=2)
    first = shop.ask()

    def fail(*_: Any, **__: Any) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(responses, "add_entry", fail)
        with pytest.raises(openai.APIStatusError) as caught:
            shop.answer(first)
    assert caught.value.status_code >= 500
    assert shop.paid == []
    assert kinds(shop.answer(first))[-1] == "message"
    assert sorted(shop.paid) == [5, 6]


def is_whole(response: Any) -> Any:
    return response if "Done" in response.output_text else None


def test_an_expired_call_is_not_made(make_scripted: Make) -> None:
    shop = Shop(make_scripted, approval_s=1)
    first = shop.ask()

    def is_over() -> bool:
        with shop.api.state.db.read() as db:
            found = db.execute_sql("SELECT expires_at FROM run_approval").fetchone()
        return found is None or found[0] < now_us()

    wait_for(is_over)
    with pytest.raises((openai.ConflictError, openai.NotFoundError)) as caught:
        shop.answer(first)
    assert caught.value.code in ("approval_decided", "approval_not_found")
    assert shop.paid == []


def test_unknown_ids_and_ids_of_another_key_are_not_found(make_scripted: Make) -> None:
    shop = Shop(make_scripted)
    first, other = shop.ask(), shop.ask()
    asked = first.output[-1].id
    message = first.output[0].id
    for wrong in ("mcpr_1", f"mcpr_{'0' * 36}", asked[:-4] + "ffff", message, "x" * 200):
        with pytest.raises(openai.NotFoundError, match="approval not found"):
            shop.ask([say(wrong)])
    with pytest.raises(openai.NotFoundError, match="approval not found"):
        shop.ask([say(asked)], previous_response_id=other.id)
    conversation = shop.client.conversations.create().id
    with pytest.raises(openai.NotFoundError, match="approval not found"):
        shop.ask([say(asked)], conversation=conversation)
    with pytest.raises(openai.NotFoundError, match="approval not found"):
        shop.ask([say(asked)], user="mallory")
    _, secret = shop.api.state.db.write(
        lambda db: keys.create_key(db, "other", ["chat"], created_by="test")
    )
    with connect(shop.api, secret) as stranger:
        for options in ({}, {"previous_response_id": first.id}):
            with pytest.raises(openai.NotFoundError, match="not found"):
                stranger.responses.create(
                    model="default",
                    input=[say(asked)],
                    **options,  # type: ignore[list-item,arg-type]
                )
    assert shop.paid == []
    assert shop.answer(first).output_text == "Done: 2"


def test_too_long_repeated_fields_are_refused_before_a_decision(make_scripted: Make) -> None:
    shop = Shop(make_scripted)
    first = shop.ask()
    with pytest.raises(openai.BadRequestError, match="have more than 524288 bytes"):
        shop.answer(first, instructions="x" * 600_000)
    assert shop.paid == []
    assert shop.answer(first).output_text == "Done: 2"


def test_a_client_may_send_the_whole_conversation(make_scripted: Make) -> None:
    shop = Shop(make_scripted, rounds=2)
    whole: list[Any] = [{"role": "user", "content": "buy"}]
    answer = shop.ask(whole)
    while kinds(answer)[-1] == REQUEST:
        whole += [one.to_dict() for one in answer.output]
        whole.append(say(answer.output[-1].id))
        answer = shop.ask(whole)
    assert answer.output_text == "Done: 4"
    whole += [one.to_dict() for one in answer.output]
    last = shop.ask([*whole, {"role": "user", "content": "thanks"}])
    assert last.output_text == "You said: thanks"
    assert shop.paid == [5, 6]


def test_a_client_may_refer_to_the_request_that_it_answers(make_scripted: Make) -> None:
    """As AI SDK does."""
    shop = Shop(make_scripted)
    asked = shop.ask().output[-1].id
    answer = shop.ask(["buy", {"type": "item_reference", "id": asked}, say(asked)])
    assert answer.output_text == "Done: 2"
    (item,) = shop.client.responses.input_items.list(answer.id)
    assert item.type == "mcp_approval_response"


def test_a_conversation_contains_the_approval_request_and_its_response(make_scripted: Make) -> None:
    shop = Shop(make_scripted)
    conversation = shop.client.conversations.create().id
    first = shop.ask(conversation=conversation)
    shop.ask([say(first.output[-1].id)], conversation=conversation)
    listed = list(shop.client.conversations.items.list(conversation, order="asc", limit=2))
    assert [one.type for one in listed] == [
        "message", "message", "mcp_call", REQUEST, "mcp_approval_response", "mcp_call", "message",
    ]  # fmt: skip
    with pytest.raises(openai.BadRequestError, match="cannot be deleted one by one"):
        shop.client.conversations.items.delete(first.output[0].id, conversation_id=conversation)


@pytest.mark.parametrize("tools", [[], [{**ASKS[0], "require_approval": "never"}]])
def test_a_client_without_approvals_does_not_wait(make_scripted: Make, tools: list[Any]) -> None:
    shop = Shop(make_scripted)
    answer = shop.ask(tools=tools)
    assert "Done" in answer.output_text
    assert REQUEST not in kinds(answer)
    assert shop.paid == []


def test_invalid_approval_fields_are_rejected_by_name(api: Api) -> None:
    server = ASKS[0]
    for tools, more, named in [
        ([{**server, "server_label": "github"}], {}, "tools[0].server_label"),
        ([{**server, "server_url": "https://x.example"}], {}, "tools[0].server_url"),
        ([{**server, "require_approval": {"always": {}}}], {}, "tools[0].require_approval"),
        ([server], {"store": False}, "store"),
        ([], {"input": [say("mcpr_1")], "store": False}, "store"),
        ([], {"input": [{**say("mcpr_1"), "approve": "yes"}]}, "input[0].approve"),
        ([], {"input": [{**say("mcpr_1"), "reason": 5}]}, "input[0].reason"),
        ([], {"input": [say("mcpr_1")], "conversation": {"x": 1}}, "conversation"),
        ([], {"input": ["x", say("mcpr_1")], "conversation": "conv_1"}, "only approvals"),
        ([], {"input": ["x", say("mcpr_1")], "previous_response_id": "resp_1"}, "only approvals"),
    ]:
        answer = post(api, tools=tools, **more)
        assert answer.status_code == 400, (tools, more)
        assert named in answer.get_json()["error"]["message"]


def test_a_deleted_response_leaves_nothing(make_scripted: Make) -> None:
    shop = Shop(make_scripted)
    first = shop.ask()
    second = shop.answer(first)
    shop.client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        shop.client.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError):  # it was the same turn
        shop.client.responses.retrieve(second.id)
    assert shop.api.count_rows("message") == 0
