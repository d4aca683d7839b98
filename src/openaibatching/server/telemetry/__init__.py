"""What operators see while it runs: log lines, counters, spans. Knows no table."""
