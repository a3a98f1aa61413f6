"""Representations of wells that need no training, and the controls that stand beside every method."""
