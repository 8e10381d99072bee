"""Reads manifests and prints what podman can play of them: ConfigMaps, also for Secrets, and each DaemonSet as a pod.

pod_of.py FOLDER CONTAINER=IMAGE[,ARGUMENT...]... < MANIFESTS

The node's folders are below FOLDER, images are replaced by local ones, and what only a kubelet knows by a constant. Probes are
left out: podman runs a command in the container for them, and there is none."""

import base64
import json
import sys

import yaml

IMAGES = dict(argument.split("=", 1) for argument in sys.argv[2:])


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
            key = source["secretKeyRef"]
            variable["value"] = secrets[key["name"]][key["key"]]
    for probe in ("livenessProbe", "readinessProbe"):
        container.pop(probe, None)


def pod_of(daemonset, secrets):
    template = daemonset["spec"]["template"]
    spec = template["spec"]
    for container in spec["containers"] + spec.get("initContainers", []):
        local(container, secrets)
    for volume in spec["volumes"]:
        if "hostPath" in volume:
            volume["hostPath"]["path"] = sys.argv[1] + volume["hostPath"]["path"]
        if "secret" in volume:
            volume["configMap"] = {"name": volume.pop("secret")["secretName"]}
    # podman 4.3 removes other init containers, sometimes before they have ended.
    metadata = {
        "name": daemonset["metadata"]["name"],
        "labels": template["metadata"]["labels"],
        "annotations": {"io.podman.annotations.init.container.type": "always"},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


documents = []
manifests = [document for document in yaml.safe_load_all(sys.stdin) if document is not None]
secrets = {}
for document in manifests:
    if document["kind"] == "Secret":
        data = {key: base64.b64decode(value).decode() for key, value in document["data"].items()}
        secrets[document["metadata"]["name"]] = data
for document in manifests:
    kind = document["kind"]
    if kind == "ConfigMap":
        documents.append(document)
    elif kind == "Secret":
        # podman 4.3 stores Secrets in another form than that in which it reads them.
        name = document["metadata"]["name"]
        documents.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": secrets[name]})
    elif kind == "DaemonSet":
        documents.append(pod_of(document, secrets))
# What a pod refers to comes first.
documents.sort(key=lambda document: document["kind"] == "Pod")
print("\n---\n".join(json.dumps(document, indent=1) for document in documents))
