"""Background work of a worker process: its lease and its periodic jobs."""
