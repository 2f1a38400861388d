"""Run the command of a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import peewee

from ...agent.abandonable import CallTimedOut, TooManyAbandoned
from ...db import runs
from ...db.store import Store
from ...errors import RunCancelled, StorageError
from ...plugins.commands import AskModel, Command, CommandContext
from .abilities import TurnAbilities
from .approvals import Decided, Verdict, decide
from .outcome import CommandFailed
from .turn import OpenTurn


def choose_commands(turn: OpenTurn, abilities: TurnAbilities) -> Mapping[str, Command]:
    """Return the commands that this server answers. An upstream AstrBot has its own."""
    if turn.config.upstream is None:
        return abilities.commands
    return {name: one for name, one in abilities.commands.items() if name == "stop"}


def run_command(
    store: Store, turn: OpenTurn, abilities: TurnAbilities, command: Command, arguments: str
) -> str | AskModel:
    """Return a command's answer, or the text for the model.

    :raises CallTimedOut: if it takes longer than the time limit of a tool.
    :raises RunCancelled: if the turn is cancelled meanwhile.
    :raises CommandFailed: if the command raises an unexpected exception.
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
        said = abilities.asides.run(
            f"the command /{command.name}",
            lambda cancel: command.run(replace(context, cancel=cancel)),
            timeout_s=turn.config.agent.tool_timeout_s,
            cancel=turn.cancel,
        )
        if isinstance(said, str | AskModel):
            return said
        raise TypeError(f"it must return a text or AskModel(text), not a {type(said).__name__}")
    except (RunCancelled, StorageError, CallTimedOut, TooManyAbandoned):
        raise
    except Exception as error:
        raise CommandFailed(command.name) from error


def _decide(store: Store, turn: OpenTurn, approved: bool, comment: str) -> list[str]:
    """Decide the sender's open approvals in this session; return the tools' names.

    :param comment: Begins with ``#`` and a run's id if the sender pressed a button. Only that run
        is then decided.
    """
    word, _, rest = comment.partition(" ")
    run_id, comment = (word[1:], rest.strip()) if word.startswith("#") else ("", comment)
    username = turn.request.username
    verdict = Verdict(approved, comment=comment, actor=username)

    def job(db: peewee.Database) -> list[Decided]:
        waiting = runs.list_waiting_of(db, turn.session.id, username, run_id)
        return [decide(db, number, verdict) for number in waiting]

    decided = store.write(job)
    for one in decided:
        for entry in one.entries:
            entry.log()
    return [call.tool for one in decided for call in one.calls]
