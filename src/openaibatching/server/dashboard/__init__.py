"""The page at `/`: what is stuck, why, until when, and what it cost. Knows no upstream."""
