"""The command line ``astrbot-api``."""
