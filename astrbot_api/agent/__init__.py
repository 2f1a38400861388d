"""The agent loop: ask the model, call tools, and repeat until there is an answer.

It depends on neither Flask nor the database: it takes messages and yields events. See
:func:`~astrbot_api.agent.loop.run_agent`.
"""
