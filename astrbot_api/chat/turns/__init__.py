"""One turn: opened, run, answered and ended."""
