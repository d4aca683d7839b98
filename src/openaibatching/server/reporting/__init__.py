"""What is told about all of the work: numbers, forecasts, metrics. Knows no HTTP."""
