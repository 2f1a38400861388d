"""Attachments: uploads, file types, names, storage and text extraction."""
