"""Runs the application: gunicorn's configuration, shutdown, and ``serve``.

Embedding applications with their own server do not need this package.
"""
