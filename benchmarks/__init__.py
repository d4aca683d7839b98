"""Figures of speed, each a ratio of two sides that were measured in the same run."""
