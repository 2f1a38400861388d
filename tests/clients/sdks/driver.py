"""Runs a job with an unchanged SDK: ``driver.py JOB URL KEY`` prints the result as JSON.

The words in the messages control the mock model.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

JOB, URL, KEY = sys.argv[1:4]
BASE = f"{URL}/api/v1/openai"
os.environ["OPENAI_API_KEY"] = KEY
# No SDK may send reports.
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

CALL = 'TOOL=get_weather TOOLARGS={"city":"Oslo"}'


class Place(BaseModel):
    """A place."""

    city: str


def get_weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def _langchain(**options: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(base_url=BASE, api_key=KEY, model="default", **options)  # type: ignore[arg-type]


def _run_langchain(**options: Any) -> dict[str, Any]:
    from langchain.agents import create_agent
    from langchain_core.messages import ToolMessage

    chat = _langchain(**options)
    bound = chat.bind_tools([get_weather])
    said = bound.invoke(CALL)
    result = ToolMessage("sunny", tool_call_id=said.tool_calls[0]["id"])
    agent = create_agent(chat, [get_weather])
    structured = chat.with_structured_output(Place)
    return {
        "text": chat.invoke("Hello").text,
        "stream": "".join(one.text for one in chat.stream("Hello")),
        "calls": [[one["name"], one["args"]] for one in said.tool_calls],
        "answer": bound.invoke([("user", CALL), said, result]).text,
        "agent": agent.invoke({"messages": [("user", CALL)]})["messages"][-1].text,
        "structured": structured.invoke('SAY={"city":"Oslo"}').city,
    }


def langchain_completions() -> dict[str, Any]:
    return _run_langchain()


def langchain_responses() -> dict[str, Any]:
    return _run_langchain(use_responses_api=True)


def langchain_threads() -> dict[str, Any]:
    chat = _langchain(use_responses_api=True, use_previous_response_id=True)
    first = chat.invoke("Hello")
    second = chat.invoke([("user", "Hello"), first, ("user", "ECHO again")])
    return {"text": second.text, "id": first.response_metadata["id"]}


def litellm_completions() -> dict[str, Any]:
    import litellm

    tools = [
        {
            "type": "function",
            "function": {"name": "get_weather", "parameters": {"type": "object"}},
        }
    ]

    def ask(text: str, **options: Any) -> Any:
        return litellm.completion(
            model="openai/default", api_base=BASE, api_key=KEY,
            messages=[{"role": "user", "content": text}], **options,
        )  # fmt: skip

    called = ask(CALL, tools=tools).choices[0]
    return {
        "text": ask("Hello").choices[0].message.content,
        "stream": "".join(one.choices[0].delta.content or "" for one in ask("Hello", stream=True)),
        "reason": called.finish_reason,
        "arguments": called.message.tool_calls[0].function.arguments,
    }


def litellm_responses() -> dict[str, Any]:
    import litellm

    def ask(given: Any, **options: Any) -> Any:
        return litellm.responses(
            model="openai/default", api_base=BASE, api_key=KEY, input=given, **options
        )

    first = ask("Hello")
    events = list(ask("Hello", stream=True))
    second = ask("ECHO again", previous_response_id=first.id)
    return {
        "text": first.output[-1].content[0].text,
        "types": [str(getattr(one.type, "value", one.type)) for one in events][:2],
        "last": str(getattr(events[-1].type, "value", events[-1].type)),
        "next": second.output[-1].content[0].text,
    }


def llama_index() -> dict[str, Any]:
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.openai_like import OpenAILike

    llm = OpenAILike(
        model="default", api_base=BASE, api_key=KEY,
        is_chat_model=True, is_function_calling_model=True,
    )  # fmt: skip
    said = [ChatMessage(role="user", content="Hello")]
    tool = FunctionTool.from_defaults(fn=get_weather)
    called = llm.chat_with_tools([tool], user_msg=CALL)
    return {
        "text": llm.chat(said).message.content,
        "stream": "".join(one.delta or "" for one in llm.stream_chat(said)),
        "complete": llm.complete("Hello").text,
        "calls": [
            [one.tool_name, one.tool_kwargs] for one in llm.get_tool_calls_from_response(called)
        ],
    }


def _make_agent(**options: Any) -> Any:
    from agents import Agent, function_tool, set_default_openai_client
    from openai import AsyncOpenAI

    set_default_openai_client(AsyncOpenAI(base_url=BASE, api_key=KEY), use_for_tracing=False)
    return Agent(
        name="Weather", model="default", instructions="Help.",
        tools=[function_tool(get_weather)], **options,
    )  # fmt: skip


def agents_run() -> dict[str, Any]:
    from agents import Agent, Runner, set_default_openai_api

    async def run() -> dict[str, Any]:
        agent = _make_agent()
        first = await Runner.run(agent, CALL)
        again = await Runner.run(
            agent, [*first.to_input_list(), {"role": "user", "content": "ECHO again"}]
        )
        going_on = await Runner.run(
            agent, "ECHO thread", previous_response_id=first.last_response_id
        )
        streamed = Runner.run_streamed(agent, "Hello")
        kinds = {
            event.data.type
            async for event in streamed.stream_events()
            if event.type == "raw_response_event"
        }
        structured = await Runner.run(
            Agent(name="Place", model="default", output_type=Place), 'SAY={"city":"Oslo"}'
        )
        return {
            "text": first.final_output,
            "again": again.final_output,
            "thread": going_on.final_output,
            "streamed": streamed.final_output,
            "kinds": sorted(kinds),
            "structured": structured.final_output.city,
        }

    found = asyncio.run(run())
    set_default_openai_api("chat_completions")
    found["completions"] = asyncio.run(Runner.run(_make_agent(), CALL)).final_output
    return found


def agents_conversation() -> dict[str, Any]:
    from agents import OpenAIConversationsSession, Runner
    from openai import AsyncOpenAI

    async def run() -> dict[str, Any]:
        agent = _make_agent()
        session = OpenAIConversationsSession(openai_client=AsyncOpenAI(base_url=BASE, api_key=KEY))
        first = await Runner.run(agent, CALL, session=session)
        second = await Runner.run(agent, "ECHO again", session=session)
        items = await session.get_items()
        return {
            "text": first.final_output,
            "next": second.final_output,
            "items": [one.get("type", "message") for one in items],
        }

    return asyncio.run(run())


JOBS: dict[str, Callable[[], dict[str, Any]]] = {
    job.__name__: job
    for job in (
        langchain_completions, langchain_responses, langchain_threads, litellm_completions,
        litellm_responses, llama_index, agents_run, agents_conversation,
    )
}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(JOBS[JOB]()))
