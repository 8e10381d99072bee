"""Reads manifests and prints what podman can play of them: ConfigMaps, Secrets, and each DaemonSet as a pod of one node.

pod_of.py CONTAINER=IMAGE[,ARGUMENT...]... < MANIFESTS

Images are replaced by local ones, hostPath volumes by emptyDir, and what only a kubelet knows by a constant. Probes are left
out: podman runs a command in the container for them, and there is none."""

import base64
import json
import sys

import yaml

IMAGES = dict(argument.split("=", 1) for argument in sys.argv[1:])


def local(container, secrets):
    container["image"], *arguments = IMAGES[container["name"]].split(",")
    if arguments:
        container["args"] = arguments
    container["imagePullPolicy"] = "Never"
    for variable in container.get("env", []):
        source = variable.pop("valueFrom", {})
        if "fieldRef" in source:
            variable["value"] = "node"
        elif "secretKeyRef" in source:
            # podman 4.3 stores Secrets in another form than that in which it reads them for this.
            key = source["secretKeyRef"]
            variable["value"] = base64.b64decode(secrets[key["name"]][key["key"]]).decode()
    for probe in ("livenessProbe", "readinessProbe"):
        container.pop(probe, None)


def pod_of(daemonset, secrets):
    template = daemonset["spec"]["template"]
    spec = template["spec"]
    for container in spec["containers"] + spec.get("initContainers", []):
        local(container, secrets)
    for volume in spec["volumes"]:
        if "hostPath" in volume:
            del volume["hostPath"]
            volume["emptyDir"] = {}
        if "secret" in volume:
            # podman 4.3 mounts the whole Secret, and ends with a nil pointer where this is not said.
            volume["secret"].pop("items", None)
            volume["secret"]["optional"] = False
    metadata = {"name": daemonset["metadata"]["name"], "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


documents = []
manifests = [document for document in yaml.safe_load_all(sys.stdin) if document is not None]
secrets = {document["metadata"]["name"]: document["data"] for document in manifests if document["kind"] == "Secret"}
for document in manifests:
    kind = document["kind"]
    if kind in ("ConfigMap", "Secret"):
        documents.append(document)
    elif kind == "DaemonSet":
        documents.append(pod_of(document, secrets))
# What a pod refers to comes first.
documents.sort(key=lambda document: document["kind"] == "Pod")
print("\n---\n".join(json.dumps(document, indent=1) for document in documents))
