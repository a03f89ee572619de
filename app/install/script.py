"""The script that a person runs on the worker machine: the document's example, with what it leaves open."""

import re
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from app import VERSION
from app.clock import timestamp

_HEADER: Final = """\
#!/bin/bash
# Hydra Node Installation Script
# Generated: {generated}
# Node: {name}
# Node ID: {node_id}

echo "Installing Hydra Node Daemon..."

# Configuration
export HYDRA_NODE_TOKEN={token}
export HYDRA_CONTROLLER_ENDPOINT={endpoint}
export HYDRA_NODE_ID={node_id_quoted}

# What is installed
daemon_version={version}
daemon_url={url}
daemon_sha256={sha256}

"""
_BODY: Final = Path(__file__).with_name("script.sh").read_text(encoding="utf-8")
_FOOTER: Final = """\

echo "Installation complete!"
echo {node_id_line}
echo {endpoint_line}

run_without_systemd
"""


class Download(msgspec.Struct, frozen=True):
    """Where the daemon is to be had. `sha256` in hexadecimal, empty where this service has none to give."""

    url: str
    sha256: str


def install_script(*, node_id: str, name: str, token: str, endpoint: str, download: Download, now: datetime) -> str:
    """The installation script of one node; `name` is whatever somebody typed."""
    header = _HEADER.format(
        generated=timestamp(now),
        name=_on_one_line(name),
        node_id=node_id,
        token=_quoted(token),
        endpoint=_quoted(endpoint),
        node_id_quoted=_quoted(node_id),
        version=_quoted(VERSION),
        url=_quoted(download.url),
        sha256=_quoted(download.sha256),
    )
    footer = _FOOTER.format(
        node_id_line=_quoted(f"Node ID: {node_id}"), endpoint_line=_quoted(f"Controller: {endpoint}")
    )
    return header + _BODY + footer


def _quoted(text: str) -> str:
    """A text as the document quotes: nothing in it means anything to a shell."""
    return '"' + re.sub(r'(["$`\\])', r"\\\1", text) + '"'


def _on_one_line(name: str) -> str:
    """A name that can't leave its comment: line ends, controls and what reorders text become blanks."""
    return "".join(character if character.isprintable() else " " for character in name)
