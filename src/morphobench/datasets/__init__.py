"""Readers: a provider's raw files in, plates of raw profiles out, one at a time."""
