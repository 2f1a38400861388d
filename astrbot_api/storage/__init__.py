"""The bytes of the attachments: where they are kept, what they are, how they come in.

:mod:`~astrbot_api.storage.protocol` is the seam behind which the bytes lie in
a local folder or in S3. :mod:`astrbot_api.attachments` puts it together with
the database.
"""
