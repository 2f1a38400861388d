"""The process beside the workers: what there must be one of, not one a worker.

:mod:`.model` serves the embedded model. ``astrbot-api serve`` starts,
supervises and stops it.
"""
