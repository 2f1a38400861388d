"""The numbered events of a run: appended by its worker, read from any number, kept in a journal."""
