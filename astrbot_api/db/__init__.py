"""The state: peewee tables, one module of queries per table, and the store.

The models are bound to no database. Every query names its connection
(``query.execute(db)``). Two apps can therefore share a process, and no query
runs unnoticed where it must not (inside a stream, across a ``yield``).
"""
