"""Text of protocols that take nothing back: it goes on where a run says the same once more."""

from __future__ import annotations

from dataclasses import dataclass

#: The error of a client whose text cannot be continued.
BROKEN = "A worker of the server died, and its answer could not be continued; ask again."


@dataclass(slots=True)
class ContinuedText:
    """One text of an answer, as a client has it.

    After a ``rewind`` with ``again`` another worker makes a step of the run once more. As long as
    that says what the client has, nothing is sent; then it goes on.

    :param kept: What the client has and the run does not say any more, or not yet.
    :param broken: Whether the run says something else: the client's text cannot be continued.
    """

    kept: str = ""
    broken: bool = False

    def take_back(self, said: str) -> None:
        """Note a rewind.

        :param said: What the run had said before it.
        """
        self.kept = self.kept or said

    def add(self, piece: str, said: str) -> str:
        """Return what to send of a piece.

        :param said: What the run has said with it.
        """
        if not self.kept:
            return piece
        if self.kept.startswith(said):
            if said == self.kept:
                self.kept = ""
            return ""
        if self.broken or not said.startswith(self.kept):
            self.broken = True
            return ""
        rest, self.kept = said[len(self.kept) :], ""
        return rest

    def is_whole(self) -> bool:
        """Return whether the client has what the run has said, at its end."""
        return not self.kept and not self.broken
