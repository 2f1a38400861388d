"""Process-level utilities: threads, locks, clocks, logs, metrics, traces, HTTP client."""
