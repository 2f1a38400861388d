"""The model's input: history, token budget, documents and media."""
