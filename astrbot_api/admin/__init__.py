"""The owner's routes: login, keys, audit log and pages."""
