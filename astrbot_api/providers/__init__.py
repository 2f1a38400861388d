"""The models: any OpenAI-compatible endpoint, and a scripted one for tests.

Each module has one class with the one method of
:class:`~astrbot_api.agent.provider.Provider`; importing one connects to
nothing and starts nothing.
"""
