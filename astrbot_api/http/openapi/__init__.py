"""The OpenAPI document in two languages."""
