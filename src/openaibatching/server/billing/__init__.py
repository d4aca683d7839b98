"""What responses cost, what they may cost, and who is charged. Knows no HTTP."""
