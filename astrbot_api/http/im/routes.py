"""``GET /im/bots``."""

from __future__ import annotations

from flask import Response

from ..blueprint import ApiBlueprint
from ..envelope import ok
from ..schemas import envelope_of
from ..state import get_state
from .schemas import BotListSchema

blp = ApiBlueprint("im", __name__, tag="IM", scope="im", description="Bots on messengers.")


@blp.route("/im/bots", methods=["GET"])
@blp.doc(operationId="listImBots")
@blp.answers(envelope_of("BotListAnswer", BotListSchema()))
@blp.raises()
def list_bots() -> Response:
    """List the ids of the configured bots.

    Bots that are switched off are listed too. An id is the first part of a
    UMO. The built-in platform `webchat` is always there and is not listed.
    """
    return ok({"bot_ids": get_state().bots.list_ids()})
