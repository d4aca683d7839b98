"""Whoever carries out batches. Knows no table."""
