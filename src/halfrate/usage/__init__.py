"""Logs and exports of LLM usage, read as calls: one module per family of formats, recognised by what is in them."""
