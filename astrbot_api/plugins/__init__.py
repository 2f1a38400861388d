"""Plugins: tools, commands and hooks that others add.

A plugin author reads :mod:`~astrbot_api.plugins.hookspecs` first, then
``docs/plugins.rst``. The built-in ones in ``builtin/`` use nothing else.
"""
