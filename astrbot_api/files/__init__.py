"""Attachments: upload, kinds, names, storage."""
