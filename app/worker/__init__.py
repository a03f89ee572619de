"""The daemon of a GPU machine. It runs on Python 3.9 and knows nothing of the service but `app.protocol.wire`."""
