"""Providers: one file a dialect, registered under its name in the entry point group `halfrate.providers`."""
