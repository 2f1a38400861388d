"""The OpenAPI document in English and Chinese."""
