"""What is in a file: its text, a picture that a model can take.

``reader`` is called by the workers; the other modules have the jobs, which run in a
process of their own (:mod:`astrbot_api.runtime.aside`) and are imported there alone.
"""
