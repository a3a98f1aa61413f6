"""Representations of profiles by trained networks: CellPainTR's network with Hyena operators, and its stages.

Importing this package imports no training library; its modules need ``torch``.
"""
