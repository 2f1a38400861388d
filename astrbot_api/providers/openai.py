"""Provider for endpoints that speak OpenAI's chat completions.

The endpoint responds with a stream of chunks. Each chunk becomes deltas on
arrival. A failure before the first delta is retried. Later failures are not,
because the caller has already seen a part of the answer.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..agent.provider import Delta, ModelMessage, ModelOptions, ToolSpec
from ..config.agents import ProviderConfig
from ..errors import ProviderError
from ..runtime.outbound import Call
from . import failures
from .answer import AnswerReader
from .base_url import choose_model, names_responses
from .chunks import ChunkReader, Reading
from .conversation import Rules
from .endpoint import Endpoint
from .fixes import Fix, find_fixes, has_images, name_of
from .key_ring import KeyRing
from .request_adapter import RequestAdapter
from .responses_reader import ResponsesReader
from .responses_request import PATH as RESPONSES_PATH
from .responses_request import rename_fields, to_responses
from .think import DEFAULT_TAGS

log = logging.getLogger(__name__)

#: Maximum number of changes to one request. A conversation may be shortened several times.
_MAX_FIXES = 12

#: Maximum number of models with cached state. Clients can name any model.
_MAX_MODELS = 200

#: Words of an error that differ each time: request ids and times.
_CHANGING = re.compile(r"\b(?=[\w-]{0,50}\d)[\w-]{6,}")

#: Changes that apply to one request only: they concern its content, or the present balance.
_NOT_KEPT = frozenset({"bad_media", "old_media", "stale", "unthought", "affordable"})

#: Changes that concern fields which only chat completions have.
_CHAT_ONLY = frozenset({"responses", "no_effort", "reasoning", "signature", "no_null", "filled"})


class OpenAIProvider:
    """A model behind an OpenAI-compatible endpoint.

    Thread-safe: one instance serves any number of streams, each over its own connection.

    :param config: Base URL, model, timeouts and further body fields.
    :param api_key: Bearer token, or None to use the keys of the config.
    """

    def __init__(self, config: ProviderConfig, *, api_key: str | None = None) -> None:
        self._config = config
        keys = config.resolve_api_keys() if api_key is None else (api_key,)
        self._endpoint = Endpoint(config, KeyRing(keys))
        name = f"{config.id} {config.base_url}"
        self._name = hashlib.sha256(name.encode()).hexdigest()[:16]
        self._prefers_responses = config.api == "responses" or names_responses(config.base_url)
        self._adapters: dict[str, RequestAdapter] = {}
        self._default_model = ""
        self._default_model_lock = threading.Lock()

    def stream(
        self,
        messages: Sequence[ModelMessage],
        tools: Sequence[ToolSpec],
        options: ModelOptions,
    ) -> Iterator[Delta]:
        """Call the model once and stream its answer.

        :param messages: The conversation, oldest first. Invalid messages are repaired.
        :param options: Model, cancellation and further body fields.
        :returns: Deltas. Tool calls are complete, and the last delta is a
            :class:`~astrbot_api.agent.provider.Finished`.
        :raises ProviderError: when the endpoint is unreachable, returns an error,
            drops the connection or sends an empty answer.
        :raises RunCancelled: when ``options.cancel`` fires.
        """
        with Call(options.cancel, headers=options.headers) as call:
            model = options.model or self._config.model or self._get_default_model(call)
            body = {**self._config.extra, **options.extra, "model": model, "stream": True}
            body.setdefault("stream_options", {"include_usage": True})
            body["messages"] = messages
            if tools:
                body["tools"] = [*body.get("tools", ()), *tools]
            answer, found = self._open(body, call)
            try:
                while found is not None:
                    yield from found
                    found = answer.read_more()
            finally:
                answer.close()

    def list_models(self, call: Call) -> Any:
        """Return the JSON of the endpoint's model list.

        :raises ProviderError: when the request fails or the response is not JSON.
        """
        try:
            return orjson.loads(self._endpoint.fetch("/models", call))
        except orjson.JSONDecodeError as error:
            raise ProviderError(failures.NOT_JSON) from error

    def _open(self, body: Mapping[str, Any], call: Call) -> tuple[AnswerReader, list[Delta] | None]:
        """Send the request until the first delta arrives, changing it after rejections."""
        attempts, adapter = self._endpoint.begin_attempts(), self._get_adapter(body["model"])
        # A copy, since a concurrent request may store the change that this one needs, too.
        trial, tries, helped = adapter.copy(), 0, list[_Try]()
        while True:
            base, adapted = self._endpoint.base, trial.adapt(body)
            try:
                opened = self._begin(adapted, call, trial)
                _keep(helped, adapter, body["model"])
                adapter.note_accepted(adapted)
                return opened
            except (failures.EndpointRefusal, failures.ReportedError) as error:
                found = list(self._find_fixes(error, trial, adapted))
                words = _CHANGING.sub("", error.text)
                if helped and helped[-1].words == words:
                    helped.pop()
                fix = next((one for one in found if trial.add(one, adapted)), None)
                if fix is not None and tries < _MAX_FIXES:
                    tries += 1
                    helped.append(_Try(fix, adapted, words))
                    continue
                self._endpoint.prepare_retry(
                    _name_cause(error, found, adapted), base, attempts, call
                )
            except ProviderError as error:
                self._endpoint.prepare_retry(error, base, attempts, call)

    def _find_fixes(
        self,
        error: failures.EndpointRefusal | failures.ReportedError,
        trial: RequestAdapter,
        adapted: Mapping[str, Any],
    ) -> Iterator[Fix]:
        """Yield changes after which the endpoint may accept the request, the most likely first."""
        if not trial.uses_responses:
            yield from find_fixes(error.status, error.text, adapted)
            return
        unknown = error.status in (404, 405) and not re.search(
            r"\bmodel\b", error.text, re.IGNORECASE
        )
        if unknown and not self._prefers_responses:
            yield Fix("no_responses")  # a gateway that only quotes OpenAI's advice
        for fix in find_fixes(error.status, rename_fields(error.text, adapted), adapted):
            if fix.kind not in _CHAT_ONLY:
                yield fix

    def _begin(
        self, body: dict[str, Any], call: Call, adapter: RequestAdapter
    ) -> tuple[AnswerReader, list[Delta]]:
        """Send the request once and read the answer up to its first delta.

        An error about the key may come inside the answer. Then the next key is used.
        """
        audio = body.get("audio")
        reading = Reading(
            provider=adapter.provider,
            shown_provider=self._config.id,
            model=body["model"],
            tags=DEFAULT_TAGS if self._config.reasoning_tags is None
            else self._config.reasoning_tags,
            tools=frozenset(map(name_of, body.get("tools") or ())),
            sound_format=str(audio.get("format") or "") if isinstance(audio, dict) else "",
            lists_sources="response_format" not in body,
        )  # fmt: skip
        path, content = "/chat/completions", body
        make: type[ChunkReader] = ChunkReader
        if adapter.uses_responses:
            path, content, make = RESPONSES_PATH, to_responses(body), ResponsesReader
        while True:
            sent, key = self._endpoint.send("POST", path, content, call)
            reader = make(reading, self._endpoint)
            answer = AnswerReader(sent, call, self._endpoint, reader, self._config.read_timeout_s)
            try:
                found = answer.read_first()
            except BaseException as error:
                answer.close()
                if not isinstance(error, failures.EndpointRefusal):
                    raise
                if not self._endpoint.pause_key(key, error):
                    raise
            else:
                self._endpoint.confirm()
                return answer, found

    def _get_adapter(self, model: str) -> RequestAdapter:
        adapter = self._adapters.get(model)
        if adapter is None:
            if len(self._adapters) >= _MAX_MODELS:
                self._adapters.clear()
            rules = Rules(strict_roles=self._config.strict_roles)
            made = RequestAdapter(self._name, rules, responses=self._prefers_responses)
            adapter = self._adapters.setdefault(model, made)
        return adapter

    def _get_default_model(self, call: Call) -> str:
        """Return the endpoint's first chat model. The list is requested once.

        :raises ProviderError: when the list cannot be read or is empty.
        """
        while not self._default_model_lock.acquire(timeout=0.1):
            call.check()
        try:
            if not self._default_model:
                self._default_model = self._ask_first_model(call)
            return self._default_model
        finally:
            self._default_model_lock.release()

    def _ask_first_model(self, call: Call) -> str:
        hint = "The config names no model"
        try:
            listed = self.list_models(call)
        except ProviderError as error:
            raise ProviderError(
                f"{hint}, and its endpoint's list of models could not be read: {error.message}",
                retryable=error.retryable,
                retry_after_s=error.retry_after_s,
            ) from error
        model = choose_model(listed)
        if not model:
            raise ProviderError(f"{hint}, and its endpoint lists none.")
        return model


@dataclass(frozen=True, slots=True)
class _Try:
    """A change of a rejected request. ``words`` are those of the rejection."""

    fix: Fix
    rejected: Mapping[str, Any]
    words: str


def _keep(helped: Sequence[_Try], adapter: RequestAdapter, model: str) -> None:
    """Store the changes after which an endpoint's words changed, until it accepted the request.

    Other changes are not kept, since an error may quote a user, or be about something else.
    """
    for one in helped:
        if one.fix.kind in _NOT_KEPT or adapter.is_disproved(one.fix):
            continue
        if words := adapter.add(one.fix, one.rejected):
            log.warning("model %s %s", model, words)


def _name_cause(
    error: failures.EndpointRefusal | failures.ReportedError,
    fixes: Sequence[Fix],
    body: Mapping[str, Any],
) -> ProviderError:
    """Return the final error, with a remedy if the conversation is too long."""
    if error.status == 413 and has_images(body["messages"]):
        return ProviderError(failures.TOO_LARGE, reason="context_length_exceeded")
    if any(one.kind == "too_long" for one in fixes):
        return ProviderError(failures.TOO_LONG, reason="context_length_exceeded")
    return error
