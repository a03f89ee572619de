"""The WebSocket shell around `protocol/session.py`."""
