"""Images: decoding what providers serve, the image store, folds over its samples."""
