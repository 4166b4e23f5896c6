"""What is applied to a cluster is what Kubernetes understands, and what this code has.

The base has no patches, so its documents are its rendering. The judge of form is Kubernetes' own schemas
(kubernetes-validate carries them); the rest is compared with the code. Components are patched as kustomize would:
by JSON Patch, which is a library's.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jsonpatch
import kubernetes_validate
import kubernetes_validate.utils
import pytest
import typer
import yaml
from click import Context

from fhirgw.app import create_app
from fhirgw.cli.commands import COMMANDS, app
from fhirgw.jobs.place import SCRATCH
from fhirgw.settings import Settings

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
Document = dict[str, Any]
VERSIONS = ("1.31", kubernetes_validate.latest_version())
"""The oldest and the newest Kubernetes that these documents are for."""


@pytest.fixture(scope="module", autouse=True)
def schemas() -> Iterator[None]:
    """Each of Kubernetes' schemas is read once: the largest has a megabyte."""
    kept = kubernetes_validate.utils.schema_contents
    kubernetes_validate.utils.schema_contents = cache(kept)
    yield
    kubernetes_validate.utils.schema_contents = kept


def documents(path: Path) -> list[Document]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def kustomization(folder: str) -> Document:
    (found,) = documents(K8S / folder / "kustomization.yaml")
    return found


def listed(folder: str) -> list[Document]:
    return [each for name in kustomization(folder)["resources"] for each in documents(K8S / folder / name)]


BASE = listed("base")
COMPONENTS = [f"components/{path.name}" for path in sorted((K8S / "components").iterdir())]
ADDED = [each for component in COMPONENTS for each in listed(component)]
SECRETS = documents(K8S / "secrets.template.yaml")
EVERYTHING = [*BASE, *ADDED, *SECRETS]


def title(document: Document) -> str:
    return f"{document['kind']}-{document['metadata']['name']}"


def one(kind: str, name: str, among: list[Document] = BASE) -> Document:
    (found,) = [each for each in among if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pod(document: Document) -> Document | None:
    """The template of the pods that a document has made."""
    spec = document.get("spec", {})
    return (spec.get("jobTemplate", {}).get("spec", spec)).get("template")


PODS = {title(each): found for each in [*BASE, *ADDED] if (found := pod(each))}


def container(template: Document) -> Document:
    (only,) = template["spec"]["containers"]
    return only


def understood(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The command that `fhirgw` would run, and its options; raises click's UsageError for what it does not have."""
    command: Any = typer.main.get_command(app)
    context, path = Context(command, info_name="fhirgw"), []
    while hasattr(command, "resolve_command"):
        name, command, arguments = command.resolve_command(context, arguments)
        path.append(name)
    return " ".join(path), command.make_context(path[-1], list(arguments)).params


def patched(component: str) -> list[Document]:
    """The base with a component's patches."""
    found = copy.deepcopy(BASE)
    for patch in kustomization(component).get("patches", []):
        target = one(patch["target"]["kind"], patch["target"]["name"], found)
        jsonpatch.JsonPatch(yaml.safe_load(patch["patch"])).apply(target, in_place=True)
    return found


def environment(settings: Document, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a ConfigMap, as a process reads them."""
    for name, value in settings["data"].items():
        monkeypatch.setenv(name, value)
    return Settings()


# --- What Kubernetes says ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", EVERYTHING, ids=title)
def test_kubernetes_understands_each_document(document: Document, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_kubernetes_refuses_what_is_not_its_own() -> None:
    api = one("Deployment", "fhirgw-api")
    for wrong in ({"replicas": "two"}, {"replcas": 2}):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(api | {"spec": api["spec"] | wrong}, VERSIONS[-1], strict=True)


def test_the_base_is_what_its_files_say_and_nothing_else() -> None:
    made = kustomization("base")
    assert set(made) == {"apiVersion", "kind", "resources"}
    assert {*made["resources"], "kustomization.yaml"} == {path.name for path in (K8S / "base").iterdir()}
    names = [title(each) for each in BASE]
    assert len(names) == len(set(names))
    assert not any("namespace" in each["metadata"] for each in EVERYTHING)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_leaves_documents_that_kubernetes_understands(component: str) -> None:
    for document in patched(component):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def test_the_example_is_made_of_what_is_there() -> None:
    example = kustomization("overlays/example")
    for path in [*example["resources"], *example["components"]]:
        assert (K8S / "overlays/example" / path / "kustomization.yaml").exists(), path
    settings = one("ConfigMap", "fhirgw-settings")["data"]
    (patch,) = example["patches"]
    assert {each["path"].removeprefix("/data/") for each in yaml.safe_load(patch["patch"])} <= set(settings)
    assert {each["name"] for each in example["images"]} == {container(each)["image"] for each in PODS.values()}


# --- What the code says -------------------------------------------------------------------------------------------


def test_the_settings_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = one("ConfigMap", "fhirgw-settings")
    known = {f"FHIRGW_{name.upper()}" for name in Settings.model_fields}
    assert set(settings["data"]) <= known
    for template in PODS.values():
        assert {each["name"] for each in container(template)["env"]} <= known
    assert environment(settings, monkeypatch).worker_in_serve is False


def test_exports_go_to_an_object_store_if_it_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = patched("components/objects")
    given = environment(one("ConfigMap", "fhirgw-settings", documents), monkeypatch)
    assert (given.export_store, given.signed_for) == ("s3://fhirgw-exports/bulk", timedelta(0))
    secrets = {each["metadata"]["name"] for each in SECRETS}
    for name in ("fhirgw-api", "fhirgw-workers"):
        template = one("Deployment", name, documents)["spec"]["template"]
        only = container(template)
        (secret,) = [each["secretRef"] for each in only["envFrom"] if "secretRef" in each]
        assert secret["optional"] is True and secret["name"] in secrets
        mounted = {each["mountPath"]: each["name"] for each in only["volumeMounts"]}
        (volume,) = [
            each for each in template["spec"]["volumes"] if each["name"] == mounted[str(given.export_folder / SCRATCH)]
        ]
        assert "emptyDir" in volume  # of the node's own: a COPY waits for no network
    template = one("Deployment", "fhirgw-workers")["spec"]["template"]
    policy = one("NetworkPolicy", "fhirgw-workers-objects", ADDED)["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_an_applications_rate_is_shared_by_as_many_processes_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    api = one("Deployment", "fhirgw-api")
    _, options = understood(container(api["spec"]["template"])["args"])
    given = environment(one("ConfigMap", "fhirgw-settings"), monkeypatch)
    assert given.processes == api["spec"]["replicas"] * options["workers"]
    scaled = patched("components/autoscale")
    assert "replicas" not in one("Deployment", "fhirgw-api", scaled)["spec"]
    (hpa,) = listed("components/autoscale")
    most = environment(one("ConfigMap", "fhirgw-settings", scaled), monkeypatch).processes
    assert most == hpa["spec"]["maxReplicas"] * options["workers"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("Job-fhirgw-migrate", "migrate"),
        ("Deployment-fhirgw-api", "serve"),
        ("Deployment-fhirgw-workers", "worker"),
        ("CronJob-fhirgw-audit-verify", "audit verify"),
        ("CronJob-fhirgw-sync-meadow", "sync"),
    ],
)
def test_the_commands_are_commands(name: str, command: str) -> None:
    assert understood(container(PODS[name])["args"])[0] == command


def test_every_pod_has_its_command_tried_above() -> None:
    (parameters,) = test_the_commands_are_commands.pytestmark
    assert {name for name, _ in parameters.args[1]} == set(PODS)


def test_the_probes_ask_what_is_served_where_it_is_served() -> None:
    routes = {getattr(route, "path", "") for route in create_app(Settings()).routes}
    only = container(PODS["Deployment-fhirgw-api"])
    (port,) = only["ports"]
    _, options = understood(only["args"])
    assert (options["host"], options["port"]) == ("0.0.0.0", port["containerPort"])
    asked = {name: only[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {each["port"] for each in asked.values()} == {port["name"]}
    assert {name: each["path"] for name, each in asked.items()} == {
        "startupProbe": "/health/live",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }
    assert {each["path"] for each in asked.values()} <= routes
    (served,) = one("Service", "fhirgw")["spec"]["ports"]
    (allowed,) = one("NetworkPolicy", "fhirgw-api")["spec"]["ingress"]
    assert served["targetPort"] == allowed["ports"][0]["port"] == port["name"]


def test_the_grace_of_a_pod_is_longer_than_what_it_waits_for() -> None:
    from fhirgw.cli.server import GRACE

    template = PODS["Deployment-fhirgw-api"]
    _, seconds = container(template)["lifecycle"]["preStop"]["exec"]["command"]
    assert template["spec"]["terminationGracePeriodSeconds"] >= int(seconds) + GRACE + 5


# --- What belongs together ----------------------------------------------------------------------------------------


def test_every_pod_is_as_restricted_as_can_be() -> None:
    for name, template in PODS.items():
        spec, only = template["spec"], container(template)
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert {"cpu", "memory"} <= set(only["resources"]["requests"]), name
        assert "memory" in only["resources"]["limits"], name


def test_what_is_selected_is_there() -> None:
    labels = {name: set(template["metadata"]["labels"].items()) for name, template in PODS.items()}
    for document in [*BASE, *ADDED]:
        spec = document.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if selector:
            wanted = set(selector.get("matchLabels", selector).items())
            assert any(wanted <= each for each in labels.values()), title(document)
    every = set(one("NetworkPolicy", "fhirgw")["spec"]["podSelector"]["matchLabels"].items())
    assert all(every <= each for each in labels.values())


def test_what_a_pod_names_is_there() -> None:
    secrets = {each["metadata"]["name"]: set(each["stringData"]) for each in SECRETS}
    claims = {each["metadata"]["name"] for each in BASE if each["kind"] == "PersistentVolumeClaim"}
    for name, template in PODS.items():
        only, spec = container(template), template["spec"]
        for each in only["env"]:
            asked = each["valueFrom"]["secretKeyRef"]
            assert asked["key"] in secrets[asked["name"]], name
        assert {each["configMapRef"]["name"] for each in only["envFrom"]} == {"fhirgw-settings"}
        assert {each["name"] for each in only["volumeMounts"]} == {each["name"] for each in spec["volumes"]}, name
        for each in spec["volumes"]:
            assert each.get("secret", {"secretName": "fhirgw-keys"})["secretName"] in secrets
            claimed = each.get("persistentVolumeClaim", {}).get("claimName")
            assert claimed in {None, *claims, "fhirgw-extracts"}, name  # those are the operator's to bring
        one("ServiceAccount", spec["serviceAccountName"])


def test_folders_that_settings_name_are_mounted() -> None:
    settings = one("ConfigMap", "fhirgw-settings")["data"]
    mounts = {each["name"]: each for each in container(PODS["Deployment-fhirgw-api"])["volumeMounts"]}
    assert mounts["data"]["mountPath"] == settings["FHIRGW_DATA"]
    assert mounts["keys"]["mountPath"] == settings["FHIRGW_KEYS"]
    worker = {each["name"]: each for each in container(PODS["Deployment-fhirgw-workers"])["volumeMounts"]}
    assert worker["data"] == mounts["data"]


# --- The image ----------------------------------------------------------------------------------------------------


@cache
def steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each with what it says."""
    text = re.sub(r"^#.*\n", "", (K8S / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in text.splitlines()) if name
    ]


def said(name: str) -> list[str]:
    return [rest for each, rest in steps() if each == name]


def test_the_image_is_made_of_files_that_are_there_and_sent() -> None:
    sent = {line[1:] for line in (K8S / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for rest in said("COPY") if "--from" not in rest for source in rest.split()[:-1]}
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)


def test_what_is_installed_is_what_the_lock_names() -> None:
    pip = [part for rest in said("RUN") for part in rest.split("&&") if "-m pip" in part]
    assert len(pip) == 3
    for each in pip:
        assert ("--require-hashes" in each and "requirements.lock" in each) or "--no-index" in each, each


def test_what_builds_the_wheel_is_locked_too() -> None:
    """Nothing is fetched for it: its step has --no-index."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["build-system"]["requires"]) <= set(project["dependency-groups"]["dev"])


def test_the_image_is_not_roots_and_serves() -> None:
    ids = {(spec["securityContext"]["runAsUser"], spec["securityContext"]["fsGroup"]) for spec in _specs()}
    assert said("USER") == [f"{account}:{group}" for account, group in ids]
    assert json.loads(said("ENTRYPOINT")[0]) == ["fhirgw"]
    assert json.loads(said("CMD")[0]) == container(PODS["Deployment-fhirgw-api"])["args"]
    assert said("EXPOSE") == ["8080"]
    data = one("ConfigMap", "fhirgw-settings")["data"]["FHIRGW_DATA"]
    assert said("WORKDIR")[-1] == data
    assert f"FHIRGW_DATA={data}" in said("ENV")[-1].split()


def _specs() -> list[Document]:
    return [template["spec"] for template in PODS.values()]


# --- The guide ----------------------------------------------------------------------------------------------------


def test_the_guide_names_commands_and_documents_that_are_there() -> None:
    guide = (K8S / "README.md").read_text()
    for line in re.findall(r"`fhirgw ([a-z][^`]*)`", guide):
        assert line.split()[0] in COMMANDS, line
    for name in re.findall(r"(?:deployment|job|cronjob|secret generic)[/ ](fhirgw-[a-z-]+)", guide):
        assert name in {each["metadata"]["name"] for each in EVERYTHING}, name
