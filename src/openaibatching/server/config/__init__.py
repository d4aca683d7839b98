"""The settings, checked at the start. Knows nothing of what they are for."""
