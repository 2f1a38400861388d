"""``python -m astrbot_api``: the command ``astrbot-api``."""

from .cli.main import main

main(prog_name="astrbot-api")
