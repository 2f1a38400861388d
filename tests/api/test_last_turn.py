"""The last turn of a session: edit and regenerate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from astrbot_api.agent.provider import Delta, TextDelta
from astrbot_api.errors import ProviderError
from astrbot_api.testing import ScriptedModel

from ..servers import parse_events
from .conftest import Api
from .test_session_routes import call, check_code, data_of, edit
from .uploading import upload

Make = Callable[..., tuple[Api, ScriptedModel]]


def count_up() -> Callable[[Any], Iterator[Delta]]:
    """Return a model that answers 1, 2, 3 … and fails on demand."""
    said = iter(range(1, 1000))

    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta(str(next(said)))
        if messages[-1]["content"] == "fail":
            raise ProviderError("no")

    return answer


def history(api: Api) -> list[tuple[int, str]]:
    data = data_of(call(api, "GET", "/s?username=alice"))
    return [(one["id"], one["content"]["message"][0]["text"]) for one in data["history"]]


def regenerate(api: Api, number: Any, **body: Any) -> list[dict[str, Any]]:
    answer = call(api, "POST", f"/s/messages/{number}/regenerate?username=alice", json=body)
    assert answer.status_code == 200, answer.get_data()
    assert answer.content_type == "text/event-stream; charset=utf-8"
    return parse_events(answer.get_data())


def test_the_new_answer_replaces_the_old_one(make_scripted: Make) -> None:
    api, model = make_scripted(count_up())
    api.chat("a", session_id="s")
    api.chat("b", session_id="s")
    old = history(api)
    assert [text for _, text in old] == ["a", "1", "b", "2"]
    events = regenerate(api, old[3][0])
    types = [one["type"] for one in events]
    assert types == [
        "session_id", "run_started", "plain", "agent_stats", "complete", "message_saved", "end",
    ]  # fmt: skip
    new = history(api)
    assert new[:3] == old[:3]
    assert new[3] == (events[-2]["data"]["id"], "3")
    assert events[-2]["data"]["llm_checkpoint_id"]
    given = [one["content"] for one in model.seen[-1][1:]]
    assert given == ["a", "1", "b"], "the model is not shown its old answer"
    # The id of the user's message selects the same turn.
    regenerate(api, new[2][0], flags={"enable_streaming": False})
    assert [text for _, text in history(api)] == ["a", "1", "b", "4"]
    api.chat("c", session_id="s")
    assert [one["content"] for one in model.seen[-1][1:]] == ["a", "1", "b", "4", "c"]


def test_an_edited_message_gets_a_new_answer(make_scripted: Make) -> None:
    api, model = make_scripted(count_up())
    api.chat("a", session_id="s")
    number, answer = (one for one, _ in history(api))
    data = data_of(edit(api, number, " z "))
    assert data["content"] == {"type": "user", "message": [{"type": "plain", "text": "z"}]}
    assert data["id"] == data["message"]["id"] == number
    assert (data["needs_regenerate"], data["truncated_after_message"]) == (True, False)
    regenerate(api, answer)
    assert model.seen[-1][-1]["content"] == "z"
    assert [text for _, text in history(api)] == ["z", "2"]


def test_a_failed_attempt_keeps_the_old_answer(make_scripted: Make) -> None:
    api, model = make_scripted(count_up())
    api.chat("a", session_id="s")
    number = history(api)[0][0]
    edit(api, number, "fail")
    assert "error" in [one["type"] for one in regenerate(api, number)]
    assert [text for _, text in history(api)] == ["fail", "1", "2"]
    api.chat("b", session_id="s")
    assert [one["content"] for one in model.seen[-1][1:]] == ["fail", "1", "b"]


def test_only_the_last_turn_can_be_changed(make_scripted: Make) -> None:
    api, _ = make_scripted(count_up())
    api.chat("a", session_id="s")
    api.chat("b", session_id="s")
    (first, _), (reply, _), _, (last_reply, _) = history(api)
    check_code(edit(api, first, "x"), 409, "message_not_editable")
    check_code(edit(api, last_reply, "x"), 409, "message_not_editable")
    for number in (first, reply):
        answer = call(api, "POST", f"/s/messages/{number}/regenerate?username=alice")
        check_code(answer, 409, "message_not_editable")
    api.chat("c", session_id="other")
    for number in ("99", "x", "-1", "9" * 30, "5", "٣"):
        answer = call(api, "POST", f"/s/messages/{number}/regenerate?username=alice")
        check_code(answer, 404, "message_not_found")
    assert len(history(api)) == 4
    assert api.count_rows("run") == 3


def test_an_answer_to_an_unstored_message_cannot_be_regenerated(api: Api) -> None:
    api.chat("a", session_id="s", _skip_user_history=True)
    answer = call(api, "POST", "/s/messages/1/regenerate?username=alice")
    check_code(answer, 409, "message_not_editable")


def test_an_edit_is_validated_like_a_message(api: Api) -> None:
    attachment = upload(api, b"hello", b"a.txt")["attachment_id"]
    api.chat([{"type": "plain", "text": "x"}, {"type": "file", "attachment_id": attachment}],
             session_id="s")  # fmt: skip
    check_code(edit(api, 1, ""), 400, "message_empty")
    check_code(edit(api, 1, "", content={"text": "x"}), 400, "missing_field")
    check_code(edit(api, 1, "", content="x"), 400, "invalid_request")
    check_code(edit(api, 1, "", content={"message": 5}), 400, "invalid_request")
    assert api.count_rows("message_attachment") == 1
    data_of(edit(api, 1, "without"))
    assert api.count_rows("message_attachment") == 0
    parts = [{"type": "plain", "text": "with"}, {"type": "file", "attachment_id": attachment}]
    data = data_of(edit(api, 1, "", content={"type": "bot", "message": parts}))
    assert data["content"]["type"] == "user"
    assert data["content"]["message"][1]["filename"] == "a.txt"
    assert api.count_rows("message_attachment") == 1
    regenerate(api, 2)
    assert api.count_rows("message") == 2
