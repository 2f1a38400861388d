"""The numbered events of a run: appended by its worker, persisted in a journal, read from any."""
