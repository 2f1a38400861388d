"""One turn: opened, run in its session's order, finished and stored."""
