"""``/im``: bots, proactive messages and deliveries."""
