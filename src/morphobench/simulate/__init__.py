"""Simulated screens with known truth: raw files in each provider's own layout, under its addresses."""
