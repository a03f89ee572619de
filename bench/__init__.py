"""`make bench`: what a fleet costs on disk, and how long its questions take."""
