"""What a worker does beside requests: its lease and its chores."""
