"""Runs the command that a message names."""

from __future__ import annotations

from collections.abc import Mapping

import peewee

from ...agent.aside import CallTimedOut, TooManyAbandoned
from ...db import runs
from ...db.approvals import ApprovalRow
from ...db.store import Store
from ...errors import RunCancelled, StorageError
from .abilities import TurnAbilities
from .commands import AskModel, Command, CommandContext
from .turn import OpenTurn
from .waiting import decide, describe_decision, split_run_id


class CommandFailed(Exception):
    """A command raised what it should not; its name is the message."""


def choose_commands(turn: OpenTurn, abilities: TurnAbilities) -> Mapping[str, Command]:
    """Return the commands that are answered here; an AstrBot has its own."""
    if turn.config.upstream is None:
        return abilities.commands
    return {name: one for name, one in abilities.commands.items() if name == "stop"}


def run_command(
    store: Store, turn: OpenTurn, abilities: TurnAbilities, command: Command, arguments: str
) -> str | AskModel:
    """Return what a command answers, or what the model is asked in its place.

    :raises CommandFailed: for whatever it raises beyond its contract.
    """
    context = CommandContext(
        store=store,
        session=turn.session,
        username=turn.request.username,
        message_number=turn.user_message,
        arguments=arguments,
        commands=abilities.commands,
        config_id=turn.config.id,
        stopped=turn.stopped,
        decide=lambda approved, comment: _decide(store, turn, approved, comment),
    )
    try:
        return abilities.run_command(turn.to_context(), command, context)
    except (RunCancelled, StorageError, CallTimedOut, TooManyAbandoned):
        raise
    except Exception as error:
        raise CommandFailed(command.name) from error


def _decide(store: Store, turn: OpenTurn, approved: bool, comment: str) -> list[str]:
    """Decide what waits for the sender in this session; return the tools.

    :param comment: Begins with ``#`` and a run's id where a button below its question
        was pressed: it decides nothing that was asked later.
    """
    run_id, comment = split_run_id(comment)

    def job(db: peewee.Database) -> list[ApprovalRow]:
        waiting = runs.list_waiting_of(db, turn.session.id, turn.request.username, run_id)
        return [
            call
            for number in waiting
            for call in decide(db, number, approved=approved, comment=comment or None).calls
        ]

    calls = store.write(job)
    for call in calls:
        entry = describe_decision(call, approved, actor=turn.request.username)
        store.write(entry.store)
        entry.log()
    return [call.tool for call in calls]
