"""Following a run from any event, and ending the runs of dead workers."""
