"""Read a run from any of its events, and recover the runs of dead workers."""
