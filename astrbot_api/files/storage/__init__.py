"""Where the bytes of attachments are: a local folder or S3."""
