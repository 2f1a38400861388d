"""Special tokens that an endpoint left at the end of an answer.

A server that expects another end token than its model writes passes the token on as text, such as
``<|im_end|>`` of ChatML: llama.cpp, Ollama, LM Studio, vLLM, and gateways in front of them.
"""

from __future__ import annotations

import re

#: ChatML, Llama, GPT-OSS, Phi, Cohere (not the end of its reasoning); DeepSeek; Gemma; Llama 2 and
#: Mistral.
_TOKEN = r"<[|｜](?!END_THINKING)[\w▁]{1,24}[|｜]>|<end_of_turn>|<eos>|</s>"

_TOKENS = re.compile(rf"(?:(?:{_TOKEN})\s*)+")

#: Tokens, or the beginning of one, at the end of a piece. What is held is short, because it is
#: searched again with each piece.
_HELD = re.compile(rf"(?:(?:{_TOKEN})\s{{0,9}}){{0,4}}(?:<[|｜/]?[\w▁]{{0,24}}[|｜]?)?\Z")


class EndTokens:
    """Holds back what may be the end of an answer."""

    def __init__(self) -> None:
        self.held = ""
        self._strikes = False

    def feed(self, text: str) -> str:
        """Add a piece of text, and return what is certainly not an end token."""
        text = self.held + text
        self._strikes = self._strikes or "<s>" in text
        found = _HELD.search(text)
        assert found is not None  # it also matches the empty end
        self.held = text[found.start() :]
        return text[: found.start()]

    def release(self) -> str:
        """Return the held text."""
        held, self.held = self.held, ""
        return held

    def finish(self) -> str:
        """Return the held text unless it is a token. ``</s>`` is also the end of a ``<s>``."""
        held = self.release()
        is_text = self._strikes and held.startswith("</s>")
        return held if is_text or not _TOKENS.fullmatch(held) else ""
