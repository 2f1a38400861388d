"""Model providers: OpenAI-compatible endpoints, the embedded model and a scripted one for tests.

Each provider class implements :class:`~astrbot_api.agent.provider.Provider`.
Importing a module opens no connection and starts no thread.
"""
