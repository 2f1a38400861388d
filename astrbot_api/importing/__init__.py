"""Taking over the data of a real AstrBot: ``astrbot-api import-astrbot DIR``.

What is known of its files and tables was learnt from recordings of a running
server, from its published API page and from its public documentation, never
from its source; where these are silent, columns are found by their names and
what does not fit is left out and reported.
"""

#: What can be imported, in this order: a message finds its attachments here.
KINDS = ("configs", "keys", "attachments", "sessions")
