"""Metrics on profiles: pure cores on arrays, thin adapters on an ``Evaluation``.

Importing this package or :mod:`morphobench.metrics.evaluation` loads neither scikit-learn nor any clustering
library; each metric imports what it needs when it is called.
"""
