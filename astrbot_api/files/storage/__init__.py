"""Storage of attachments' bytes: a local folder or S3."""
