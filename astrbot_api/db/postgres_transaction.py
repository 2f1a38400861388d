"""One transaction on a PostgreSQL connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import peewee
import psycopg

from . import counting
from .postgres_connection import Connection

T = TypeVar("T")


class LostInCommit(Exception):
    """The connection was lost during COMMIT; the outcome is unknown."""


def run_job(connection: Connection, job: Callable[[peewee.Database], T]) -> T:
    """Run a job between BEGIN and COMMIT.

    :raises LostInCommit: when the connection is lost before the reply to COMMIT.
    """
    connection.database.held_locks.clear()
    connection.execute("BEGIN", prepare=False)
    try:
        counting.begin(connection.database)
        result = job(connection.database)
        counting.settle(connection.database)
    except BaseException as error:
        _roll_back(connection, error)
        raise
    try:
        ended = connection.execute("COMMIT", prepare=False)
    except psycopg.Error as error:
        if connection.closed:
            raise LostInCommit(to_line(error)) from error
        raise
    except BaseException:
        connection.close()  # the greenlet was killed; the server decides about the commit
        raise
    if ended.statusmessage != "COMMIT":
        # The job caught a database error, which had aborted the transaction.
        raise psycopg.InternalError("the transaction had failed and was rolled back")
    return result


def _roll_back(connection: Connection, error: BaseException) -> None:
    if not isinstance(error, Exception):
        connection.close()  # killed during a statement; the server rolls back
        return
    try:
        connection.execute("ROLLBACK", prepare=False)
    except psycopg.Error:
        # Nothing is left to roll back, and the first error is the relevant one.
        connection.close()


def to_line(error: BaseException) -> str:
    """Return the text of an error in one line."""
    return " ".join(str(error).split())
