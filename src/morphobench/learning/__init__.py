"""Learning representations from images: networks, losses, methods and their training.

Importing this package imports no training library; its modules need ``torch``, ``timm`` and ``lightning``.
"""
