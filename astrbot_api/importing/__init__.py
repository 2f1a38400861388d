"""Imports the data of a real AstrBot: ``astrbot-api import-astrbot DIR``.

Knowledge of its files and tables comes from recordings of a running server, its published
API page and its public documentation, never from its source code. Data in an unknown form is
skipped and reported.
"""

#: Importable data, in this order, so that messages find their attachments.
KINDS = ("configs", "keys", "attachments", "sessions")
