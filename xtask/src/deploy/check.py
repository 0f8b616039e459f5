"""Renders the chart by Helm's own library and holds the objects against Kubernetes' schemas.

Usage: check.py CHART DIST OUT. Writes the configuration of each case to OUT, for tfo to read.
"""

import json
import pathlib
import sys

import helm_python as helm
import kubernetes_validate
import yaml

CHART, DIST, OUT = (pathlib.Path(path) for path in sys.argv[1:])
IMAGE = {"image": {"repository": "registry.example/tfo"}}
CAPABILITIES = {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON"]}
VERSIONS = ["1.30", kubernetes_validate.latest_version()]
# Kinds of the Prometheus operator, which Kubernetes' schemas do not have: checked by hand below.
OPERATOR = {"ServiceMonitor", "PrometheusRule"}

MONITORING = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
}
FULL = IMAGE | MONITORING | {
    "interfaces": ["eth0", 'odd"name'],
    "mode": "native",
    "mirror": "packet",
    "ports": [443, 8443],
    "detachOnExit": True,
    "keys": {"source": "secret", "interval": "2h", "secretName": "tfo-keys"},
    "writableSysctls": True,
    "extraConfig": "[guard.port.443]\nmode = \"auto\"\n",
    "imagePullSecrets": [{"name": "pull"}],
    "tolerations": [{"operator": "Exists"}],
    "nodeSelector": {"role": "edge"},
    "affinity": {"nodeAffinity": {}},
    "seccompProfile": "RuntimeDefault",
    "priorityClassName": "system-node-critical",
    "seLinuxOptions": {"type": "spc_t"},
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
}
FARM = IMAGE | {
    "keys": {"source": "etcd", "secretName": "farm"},
    "writableSysctls": True,
    "extraConfig": "[farm]\nendpoints = ['http://192.0.2.5:2379']\nprefix = '/tfo/'\n",
}
ACCEPTED = {
    "default": IMAGE,
    "full": FULL,
    "random": IMAGE | {"keys": {"source": "random"}, "writableSysctls": True},
    "farm": FARM,
    "pods": IMAGE | {
        "pods": True,
        "extraConfig": "[[namespace]]\nname = 'cni-*'\ninterfaces = ['eth0']\n",
    },
}
# Each with a part of the error.
REFUSED = [
    ({}, "image.repository"),
    (IMAGE | {"keys": {"source": "random"}}, "writableSysctls"),
    (IMAGE | {"keys": {"source": "file"}, "writableSysctls": True}, "keys.secretName"),
    (IMAGE | {"interfaces": []}, "interfaces"),
    (IMAGE | {"interface": "eth0"}, "interface"),
    (IMAGE | {"mode": "fast"}, "mode"),
    (IMAGE | {"ports": [65536]}, "ports"),
    (IMAGE | {"keys": {"source": "random", "interval": "1 day"}}, "interval"),
]


def ensure(condition, what):
    if not condition:
        sys.exit(f"tfo: deploy: {what}")


def render(chart, values):
    chart.validate_schema(values)
    texts = chart.render(values, name="tfo", namespace="net")
    return [
        thing
        for path, text in texts.items()
        if path.endswith(".yaml")
        for thing in yaml.safe_load_all(text)
        if thing
    ]


def one(objects, kind, name="tfo"):
    found = [it for it in objects if it["kind"] == kind and it["metadata"]["name"] == name]
    ensure(len(found) == 1, f"{len(found)} objects {kind} {name}")
    return found[0]


def check_objects(case, objects):
    for thing in objects:
        ensure(thing["metadata"]["namespace"] == "net", f"{case}: {thing['kind']} has no namespace")
        if thing["kind"] in OPERATOR:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(thing, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                sys.exit(f"tfo: deploy: {case}: {thing['kind']}: Kubernetes {version}: {error.message}")


def check_pod(case, values, objects):
    pod = one(objects, "DaemonSet")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    context = container["securityContext"]
    ensure(pod["hostNetwork"], f"{case}: not in the node's network namespace")
    if values.get("writableSysctls"):
        ensure(context["privileged"] and "capabilities" not in context, f"{case}: {context}")
    else:
        ensure("privileged" not in context, f"{case}: privileged")
        pods = values.get("pods", False)
        wanted = CAPABILITIES | {"add": CAPABILITIES["add"] + ["SYS_ADMIN"] * pods}
        ensure(context["capabilities"] == wanted, f"{case}: {context['capabilities']}")
        ensure(context["allowPrivilegeEscalation"] == pods, f"{case}: {context}")
    ensure(context["seccompProfile"]["type"] == values.get("seccompProfile", "Unconfined"), f"{case}: seccomp")
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    ensure(volumes == set(mounts), f"{case}: volumes {volumes}, mounts {mounts}")
    ensure(mounts["bpf"] == "/sys/fs/bpf", f"{case}: {mounts}")
    service = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("livenessProbe", "readinessProbe"):
        action = container[probe].get("httpGet") or container[probe]["tcpSocket"]
        ensure(action["port"] in service, f"{case}: {probe}: {action}")


def check_monitoring(objects):
    """What is in dist is in the objects, unchanged."""
    rules = yaml.safe_load((DIST / "prometheus/tfo.rules.yml").read_text())
    ensure(one(objects, "PrometheusRule")["spec"] == rules, "the rules are not those of dist")
    dashboard = one(objects, "ConfigMap", "tfo-dashboard")
    text = (DIST / "grafana/tfo.json").read_text()
    ensure(dashboard["data"] == {"tfo.json": text}, "the dashboard is not that of dist")
    monitor = one(objects, "ServiceMonitor")
    service = one(objects, "Service")
    labels = service["metadata"]["labels"].items()
    ensure(monitor["spec"]["selector"]["matchLabels"].items() <= labels, "no service is selected")
    endpoint = monitor["spec"]["endpoints"][0]
    ensure(endpoint["port"] == service["spec"]["ports"][0]["name"], "the service has no such port")
    ensure({"targetLabel": "job", "replacement": "tfo"} in endpoint["relabelings"], "job is not tfo")
    pod = one(objects, "DaemonSet")["spec"]["template"]
    ensure(service["spec"]["selector"].items() <= pod["metadata"]["labels"].items(), "no pod is selected")
    ensure(monitor["metadata"]["labels"]["release"] == "prometheus", "labels")


def main():
    for values in ACCEPTED.values():
        report = helm.lint(CHART, values, strict=True)
        serious = [it for it in report["messages"] if it["severity"] >= 2]
        ensure(not serious and not report["errors"], f"helm lint: {serious} {report['errors']}")
    with helm.Chart.load(CHART) as chart:
        for case, values in ACCEPTED.items():
            objects = render(chart, values)
            check_objects(case, objects)
            check_pod(case, values, objects)
            (OUT / f"{case}.toml").write_text(one(objects, "ConfigMap")["data"]["tfo.toml"])
            if case == "full":
                check_monitoring(objects)
            else:
                ensure(len(objects) == 2, f"{case}: more than a ConfigMap and a DaemonSet")
        for values, part in REFUSED:
            try:
                render(chart, values)
            except helm.HelmError as error:
                ensure(part in str(error), f"{json.dumps(values)}: {error}")
            else:
                sys.exit(f"tfo: deploy: accepted: {json.dumps(values)}")
    print(
        f"tfo: Helm {helm.helm_sdk_version()}: {len(ACCEPTED)} sets of values rendered, {len(REFUSED)} refused; "
        f"objects as the schemas of Kubernetes {' and '.join(VERSIONS)} have them"
    )


main()
