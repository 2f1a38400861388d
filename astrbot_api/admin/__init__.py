"""The owner's side: login, keys, audit and the pages."""
