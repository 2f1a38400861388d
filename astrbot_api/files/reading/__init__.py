"""Conversion of files for models: text, images, audio.

Workers call ``reader``. The other modules contain jobs, which are imported and run only in
separate processes (:mod:`astrbot_api.runtime.aside`).
"""
