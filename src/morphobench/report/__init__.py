"""Tables and figures: from score files to what a reader of the papers would recognise.

Importing this package or :mod:`morphobench.report.cells` stays light; the workflow does so at every parse.
"""
