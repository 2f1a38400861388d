"""Resume text in protocols that cannot retract it, if a repeated step produces the same text."""

from __future__ import annotations

from dataclasses import dataclass

#: Error message if the repeated step produces different text.
BROKEN = "A worker of the server died, and its answer could not be continued; ask again."


@dataclass(slots=True)
class ContinuedText:
    """The text of a response as the client has received it.

    After a ``rewind`` with ``again``, another worker repeats a step of the run. While the
    repeated text matches the client's, nothing is sent. New text is sent after that.

    :param kept: Text that the client has and the repeated step must produce again.
    :param broken: Whether the repeated step produced different text, so that the client's
        text cannot be continued.
    """

    kept: str = ""
    broken: bool = False

    def take_back(self, said: str) -> None:
        """Record a rewind.

        :param said: The text of the run before it.
        """
        self.kept = self.kept or said

    def add(self, piece: str, said: str) -> str:
        """Return the part of a piece that must be sent.

        :param said: The text of the run, including the piece.
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
        """Return whether the client has the complete text, after the run ended."""
        return not self.kept and not self.broken
