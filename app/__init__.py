"""AIWM Node Telemetry. The version stands here, where the daemon of a GPU machine can read it too."""

VERSION = "1.0.0"
