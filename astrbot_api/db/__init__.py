"""State: peewee tables, one module each, and the store that reads and writes them.

The models are bound to no database. Every query says which connection it
runs on (``query.execute(db)``), so two apps live in one process and no query
can slip in where none may be (inside a stream, across a ``yield``).
"""
