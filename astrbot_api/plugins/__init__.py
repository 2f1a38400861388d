"""Plugins: tools, commands and hooks added by others.

Plugin authors start with :mod:`~astrbot_api.plugins.hookspecs`, then ``docs/plugins.rst``. The
built-in plugins in ``builtin/`` use the same interface.
"""
