"""deploy/kubernetes/daemonset.yaml: what the pod is given is what the daemon and its image know."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from app import VERSION
from app.worker import config

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "deploy" / "kubernetes" / "daemonset.yaml").read_text()
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()


@pytest.fixture
def pod() -> dict[str, Any]:
    """The pod's specification."""
    daemonset: dict[str, Any] = yaml.safe_load(TEXT)
    assert (daemonset["apiVersion"], daemonset["kind"]) == ("apps/v1", "DaemonSet")
    template = daemonset["spec"]["template"]
    assert daemonset["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    return dict(template["spec"])


def test_every_mount_is_of_a_volume_and_where_the_daemon_looks(pod: dict[str, Any]) -> None:
    """The token's file, the state folder; nothing of the machine but the spool can be written."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    (daemon,) = pod["containers"]
    mounts = {mount["mountPath"]: mount for mount in daemon["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == set(volumes)
    assert mounts[str(config.CONFIG_DIR / "token")]["name"] == "tokens"
    assert mounts[str(config.STATE_DIR)]["name"] == "spool"
    writable = [path for path, mount in mounts.items() if not mount.get("readOnly")]
    assert writable == [str(config.STATE_DIR)]
    assert volumes["tokens"]["secret"]["defaultMode"] == 0o440


def test_a_pod_sees_its_own_machines_token_alone(pod: dict[str, Any]) -> None:
    """By the machine's name, which the pod is told; no token stands in the environment."""
    (daemon,) = pod["containers"]
    variables = {variable["name"]: variable for variable in daemon["env"]}
    (mount,) = (mount for mount in daemon["volumeMounts"] if mount["name"] == "tokens")
    (variable,) = re.findall(r"^\$\((\w+)\)$", mount["subPathExpr"])
    assert variables[variable]["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
    assert "HYDRA_NODE_TOKEN" not in variables


def test_the_image_is_this_version_and_its_user_nobody(pod: dict[str, Any]) -> None:
    """The same number in the image and in the pod; few rights in both containers."""
    image = DOCKERFILE.partition("AS daemon\n")[2].partition("\nFROM")[0]
    user = pod["securityContext"]["runAsUser"]
    assert re.findall(r"^USER (\S+)$", image, re.MULTILINE) == [f"{user}:{pod['securityContext']['runAsGroup']}"]
    assert user >= 1000
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["image"].endswith(f":{VERSION}")
        may = container["securityContext"]
        assert may["capabilities"]["drop"] == ["ALL"]
        assert may["readOnlyRootFilesystem"]
        assert not may["allowPrivilegeEscalation"]
    assert not pod["automountServiceAccountToken"]


def test_the_pod_has_the_gpus_and_takes_none(pod: dict[str, Any]) -> None:
    """NVIDIA's runtime shows them all, and the scheduler may give every one to others."""
    (daemon,) = pod["containers"]
    assert pod["runtimeClassName"] == "nvidia"
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"} in daemon["env"]
    assert "nvidia.com/gpu" not in daemon["resources"].get("limits", {})
