"""A provider that traces each call as a span."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..agent.provider import Delta, ModelMessage, ModelOptions, Provider, ToolSpec, Usage
from ..config.agents import ProviderConfig
from ..errors import ProviderError, RunCancelled
from ..runtime.tracing import Span


@dataclass(frozen=True, slots=True)
class TracedProvider:
    """A provider that adds a span for each call: model, token counts, time of the first token.

    Source of the attribute names: https://opentelemetry.io/docs/specs/semconv/gen-ai/.
    """

    provider: Provider
    config: ProviderConfig
    span: Span

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        """Call the model once, within a span."""
        model = options.model or self.config.model
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": self.config.type}
        if model:
            attributes["gen_ai.request.model"] = model
        span = self.span.begin(f"chat {model}".strip(), "CLIENT", attributes)
        silent = True
        try:
            traced = replace(options, headers={**options.headers, **span.to_headers()})
            for delta in self.provider.stream(messages, tools, traced):
                if isinstance(delta, Usage):
                    span.note(_describe(delta))
                elif silent:
                    silent = False
                    span.add_event("gen_ai.first_token")
                yield delta
        except ProviderError:
            span.fail("provider_error")
            raise
        except RunCancelled as error:
            span.note({"astrbot.run.status": error.reason})
            raise
        except Exception as error:
            span.fail(type(error).__name__)
            raise
        finally:
            span.end()


def _describe(usage: Usage) -> dict[str, int]:
    return {
        "gen_ai.usage.input_tokens": usage.input_other + usage.input_cached,
        "gen_ai.usage.cache_read.input_tokens": usage.input_cached,
        "gen_ai.usage.output_tokens": usage.output,
    }
