"""Numbered SQL files; `halfrate.store.migrate` runs what a database lacks."""
