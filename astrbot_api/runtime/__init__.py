"""Threads, locks, clocks, logs, metrics and traces; nothing of chats."""
