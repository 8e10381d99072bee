"""Prints a pod for tools/test-images with what it needs, as YAML documents in JSON.

pods.py list
pods.py NAME with|without IMAGE DSN CA_FILE FOLDER

The pod is called NAME and has one container, `host`, which crashes. Folders of the node are below FOLDER."""

import json
import sys

STATE = "/var/lib/ondat-telemetry"
EXEC = ["/usr/bin/ondat-telemetry", "exec", "--env-file", "/etc/ondat/settings.env"]

# A pod: what its spec, its container and its volume for the state directory are besides the usual.
PODS = {
    "emptydir": {"state": {"emptyDir": {}}},
    "memory": {"state": {"emptyDir": {"medium": "Memory"}}},
    # As a kubelet leaves an emptyDir in memory: a tmpfs of mode 0777 that is root's.
    "tmpfs": {"pod": {"securityContext": {"runAsUser": 4711}}, "state": {"hostPath": {"type": "Directory"}}},
    "hostpath": {
        "container": {"securityContext": {"runAsUser": 0}},
        "state": {"hostPath": {"type": "DirectoryOrCreate"}},
    },
    # Root's, and the user is not: there is no state directory, and the report arrives all the same.
    "notours": {
        "container": {"securityContext": {"runAsUser": 4711}},
        "state": {"hostPath": {"type": "DirectoryOrCreate"}},
    },
    # As a kubelet leaves a volume with fsGroup: root's, of that group, mode 2770.
    "fsgroup": {
        "pod": {"securityContext": {"runAsUser": 4711, "runAsGroup": 2000, "fsGroup": 2000}},
        "state": {"hostPath": {"type": "Directory"}},
    },
    "restricted": {
        "container": {
            "securityContext": {
                "runAsUser": 1000680000,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        },
    },
    "shared": {
        "pod": {"shareProcessNamespace": True},
        "container": {
            "env": [{"name": "ONDAT_TELEMETRY_CRASH_WAIT_MS", "value": "5000"}],
            "securityContext": {"runAsUser": 0},
        },
        "state": {"hostPath": {"type": "DirectoryOrCreate"}},
    },
    # The program does not use the library. Its settings are in a file, with the cluster spec beside it.
    "exec": {"exec": [*EXEC, "--cluster-spec", "/etc/ondat/on.yaml", "--"]},
    "off": {"exec": [*EXEC, "--cluster-spec", "/etc/ondat/off.yaml", "--"]},
}


def spec(disable):
    kind = {"apiVersion": "storageos.com/v1", "kind": "StorageOSCluster", "metadata": {"name": "storageos"}}
    return json.dumps({**kind, "spec": {"disableTelemetry": disable}})


def documents(name, use, image, dsn, ca_file, folder):
    settings = {
        "ONDAT_TELEMETRY_COMPONENT": "host",
        "ONDAT_TELEMETRY_VERSION": "1.0.0",
        "ONDAT_TELEMETRY_CLUSTER_ID": "cluster",
        "ONDAT_TELEMETRY_NODE_ID": "node",
        "ONDAT_TELEMETRY_SENTRY_DSN": dsn,
        "ONDAT_TELEMETRY_CA_FILE": "/etc/ondat/ca.pem",
        "ONDAT_TELEMETRY_STATE_DIR": STATE,
    }
    files = {
        "ca.pem": open(ca_file, encoding="utf-8").read(),
        "settings.env": "".join(f"{key}={value}\n" for key, value in settings.items()),
        "on.yaml": spec(False),
        "off.yaml": spec(True),
    }
    for config, data in (("settings", settings), ("files", files)):
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": config}, "data": data}

    pod = PODS[name]
    container = {
        "name": "host",
        "image": image,
        "imagePullPolicy": "Never",
        "args": [use, "SIGSEGV"],
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "volumeMounts": [{"name": "files", "mountPath": "/etc/ondat"}],
        **pod.get("container", {}),
    }
    if "exec" in pod and use == "with":
        container["command"] = pod["exec"][:1]
        container["args"] = [*pod["exec"][1:], "/usr/bin/host", "without", "SIGSEGV"]
        del container["envFrom"]
    volumes = [{"name": "files", "configMap": {"name": "files"}}]
    if "state" in pod:
        state = json.loads(json.dumps(pod["state"]))
        if "hostPath" in state:
            state["hostPath"]["path"] = f"{folder}/{name}"
        volumes.append({"name": "state", **state})
        container["volumeMounts"].append({"name": "state", "mountPath": STATE})
    yield {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", **pod.get("pod", {}), "containers": [container], "volumes": volumes},
    }


if sys.argv[1:] == ["list"]:
    print(*PODS)
else:
    print("\n---\n".join(json.dumps(document, indent=1) for document in documents(*sys.argv[1:])))
