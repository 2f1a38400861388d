"""The agent: model, tools, model, until there is an answer.

Knows nothing of Flask and nothing of the database: it takes messages and
yields events. See :func:`~astrbot_api.agent.loop.run_agent`.
"""
