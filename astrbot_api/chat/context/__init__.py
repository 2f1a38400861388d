"""What a model is given: history, budget, documents and media."""
