"""Speaks HTTP with OpenAI, and reads what it says. Knows no table."""
