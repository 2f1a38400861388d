"""The event log of a run: append, read after a number, wait."""
