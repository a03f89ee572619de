"""The script that a person runs on the worker machine: the document's example, filled in."""

from datetime import datetime
from typing import Final

from app.clock import timestamp

_SCRIPT: Final = """\
#!/bin/bash
# Hydra Node Installation Script
# Generated: {generated}
# Node: {name}
# Node ID: {node_id}

echo "Installing Hydra Node Daemon..."

# Configuration
export HYDRA_NODE_TOKEN="{token}"
export HYDRA_CONTROLLER_ENDPOINT="{endpoint}"
export HYDRA_NODE_ID="{node_id}"

# TODO: Add actual installation steps
# 1. Download daemon binary
# 2. Install systemd service
# 3. Configure daemon with token
# 4. Start service

echo "Installation complete!"
echo "Node ID: {node_id}"
echo "Controller: {endpoint}"
"""


def install_script(*, node_id: str, name: str, token: str, endpoint: str, now: datetime) -> str:
    """The installation script of one node.

    Token, id and endpoint are of known, harmless characters; the name is whatever somebody typed.
    """
    return _SCRIPT.format(
        generated=timestamp(now), name=_on_one_line(name), node_id=node_id, token=token, endpoint=endpoint
    )


def _on_one_line(name: str) -> str:
    """A name that can't leave its comment: line ends, controls and what reorders text become blanks."""
    return "".join(character if character.isprintable() else " " for character in name)
