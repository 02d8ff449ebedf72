"""What the providers bill, read from their own exports and reports: one module for each provider."""
