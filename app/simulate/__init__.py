"""A fleet of real WebSocket clients, to try the service out, to fill its history and to load it.

It knows the document and the protocol, nothing of the service behind them.
"""
