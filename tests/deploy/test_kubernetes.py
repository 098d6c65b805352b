"""Manifests: each fits its published schema, and every image, flag, variable, port, path and metric in them exists."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from fastapi.testclient import TestClient

from serve.api_keys import ApiKey, ApiKeys
from serve.args import make_parser, parse_args
from serve.cluster.deploy import IMPORT_PATH
from serve.cluster.settings import command_line
from serve.engine import EngineStats
from serve.http.app import make_app
from serve.limits import BatchLimits
from serve.server import LAST_WORDS_SECONDS
from serve.settings import unknown_variables
from serve.telemetry.metric_flags import metric_options
from tests.deploy.dockerfile import ROOT, read_dockerfile
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.conftest import bundle, bundle_folder, classifier, client, reference

__all__ = ["bundle", "bundle_folder", "classifier", "client", "reference"]

FOLDER = ROOT / "deploy" / "kubernetes"
VERSION = "1.37"
OTHERS = ("serving.kserve.io/", "ray.io/", "inference.networking.k8s.io/", "gateway.networking.k8s.io/")
"""Beginnings of the API versions of custom resources, whose schemas kubernetes-validate does not have."""
KSERVE = "kserve==0.21.0"
"""Package with the generated models of KServe's resources."""
Manifest = dict[str, Any]


def manifests() -> list[tuple[str, Manifest]]:
    """Return every manifest and the file that it is in."""
    files = sorted(FOLDER.rglob("*.yaml"))
    return [(str(file.relative_to(FOLDER)), one) for file in files for one in yaml.safe_load_all(file.read_text())]


def of_kind(kind: str) -> Manifest:
    (found,) = (one for _, one in manifests() if one["kind"] == kind)
    return found


def pods() -> list[Manifest]:
    """Return the specifications of pods: the Deployment's and the InferenceService's."""
    return [of_kind("Deployment")["spec"]["template"]["spec"], of_kind("InferenceService")["spec"]["predictor"]]


def probes(container: Manifest) -> Iterator[Manifest]:
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        yield container[name]["httpGet"]


def settings(container: Manifest) -> Any:
    """Return the settings of a container's command line, read as adamix-serve reads them."""
    return parse_args([*container["args"], "/bundle"])


def test_all_kinds_are_there() -> None:
    kinds = {one["kind"] for _, one in manifests()}
    assert {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"} <= kinds
    assert {"InferenceService", "InferencePool", "HTTPRoute"} <= kinds


@pytest.mark.parametrize(("file", "manifest"), manifests())
def test_manifests_of_kubernetes_fit_its_schemas(file: str, manifest: Manifest) -> None:
    if not manifest["apiVersion"].startswith(OTHERS):
        assert kubernetes_validate.validate(manifest, VERSION, strict=True) == VERSION


def test_a_field_that_is_not_there_is_found() -> None:
    wrong = of_kind("PodDisruptionBudget")
    wrong["spec"]["maxUnavailible"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="maxUnavailible"):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_no_file_repeats_a_key() -> None:
    """A mapping keeps the last of two entries, so that a probe that is there twice would be lost without a word."""
    for file in FOLDER.rglob("*.yaml"):
        for document in yaml.compose_all(file.read_text(), yaml.SafeLoader):
            for node in mappings(document):
                keys = [key.value for key, _ in node.value]
                assert len(keys) == len(set(keys)), f"{file}: {keys}"


def mappings(node: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from mappings(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from mappings(value)


@pytest.mark.parametrize("pod", pods(), ids=["deployment", "kserve"])
def test_flags_and_variables_are_settings(pod: Manifest) -> None:
    (container,) = pod["containers"]
    read = settings(container)
    assert read.threads == int(container["resources"]["requests"]["cpu"])
    variables = {one["name"]: one["value"] for one in container.get("env", [])}
    assert unknown_variables(make_parser(), variables) == []
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert container["image"] == f"adamix:{version}"


@pytest.mark.parametrize("pod", pods(), ids=["deployment", "kserve"])
def test_a_pod_is_killed_after_the_server_has_ended_by_itself(pod: Manifest) -> None:
    (container,) = pod["containers"]
    read = settings(container)
    own = read.drain_delay + read.exit_timeout_secs + LAST_WORDS_SECONDS
    assert pod["terminationGracePeriodSeconds"] > own
    # In the time that it takes requests while it is unready, two probes fail and there is time to learn of it.
    probe = container["readinessProbe"]
    assert read.drain_delay >= probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"] + 5


@pytest.mark.parametrize("pod", pods(), ids=["deployment", "kserve"])
def test_ports_and_probes_are_the_servers(pod: Manifest, client: httpx.Client) -> None:
    (container,) = pod["containers"]
    environment = read_dockerfile("deploy/Dockerfile")[-1].environment()
    (port,) = container["ports"]
    assert str(port["containerPort"]) == environment["ADAMIX_PORT"]
    for probe in probes(container):
        assert client.get(probe["path"]).status_code == 200
        assert probe["port"] in (port["name"], port["containerPort"])


def test_probes_tell_live_from_ready() -> None:
    for pod in pods():
        ends = [probe["path"].rsplit("/", 1)[1] for probe in probes(pod["containers"][0])]
        assert ends == ["live", "live", "ready"]


@pytest.mark.parametrize("pod", pods(), ids=["deployment", "kserve"])
def test_a_pod_runs_as_the_image_does_with_a_read_only_root(pod: Manifest) -> None:
    (container,) = pod["containers"]
    last = read_dockerfile("deploy/Dockerfile")[-1]
    user = int(last.all("USER")[0].split(":")[0])
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (user, True)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    writable = {place for place, one in mounts.items() if not one.get("readOnly")}
    assert writable == set(last.json("VOLUME"))
    assert {one["name"] for one in mounts.values()} == {one["name"] for one in pod["volumes"]}
    keys = Path(last.environment()["ADAMIX_API_KEYS"])
    assert str(keys.parent) in mounts
    assert pod["enableServiceLinks"] is False


def test_each_manifest_finds_the_pods_of_the_deployment() -> None:
    deployment = of_kind("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        of_kind("Service")["spec"]["selector"],
        of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind("InferencePool")["spec"]["selector"]["matchLabels"],
        of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert of_kind("Service")["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    target = of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"], target["name"]) == (
        deployment["apiVersion"],
        deployment["kind"],
        deployment["metadata"]["name"],
    )


def test_the_autoscaler_reads_a_metric_that_servers_have(client: httpx.Client) -> None:
    exposition = client.get("/metrics").text
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    scaler = of_kind("HorizontalPodAutoscaler")["spec"]
    (metric,) = scaler["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert re.search(rf"^{name} \d", exposition, re.MULTILINE), f"/metrics has no {name}"
    assert name in page
    assert int(metric["pods"]["target"]["averageValue"]) < BatchLimits().max_queued_requests
    assert scaler["minReplicas"] == of_kind("Deployment")["spec"]["replicas"]


def test_the_metrics_that_the_page_names_exist(client: httpx.Client) -> None:
    names = set(re.findall(r"^(adamix_\w+)[ {]", client.get("/metrics").text, re.MULTILINE))
    named = set(re.findall(r"\badamix_[a-z_]+\b", (ROOT / "docs" / "deploy.md").read_text("utf-8")))
    assert {"adamix_queue_rows"} == named <= names


def test_the_variables_of_a_pool_give_its_picker_vllms_names_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    line = next(line for line in (ROOT / "docs" / "deploy.md").read_text("utf-8").splitlines() if "set env" in line)
    for variable in line.split("deployment/adamix ")[1].split():
        monkeypatch.setenv(*variable.split("=", 1))
    options = metric_options(parse_args(["bundle"]))
    keys = ApiKeys({"acme": ApiKey(name="acme", sha256="0" * 64)})
    with TestClient(make_app(Generator(), api_keys=keys, metrics=options)) as generator:
        found = generator.get("/metrics")
    assert found.status_code == 200
    assert {"vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:lora_requests_info"} <= set(
        re.findall(r"^# TYPE (\S+)", found.text, re.MULTILINE)
    )


class Generator(ToyEngine):
    """An engine that reports what a generator does."""

    def stats(self) -> EngineStats:
        return EngineStats(adapters=1, active_sequences=0, tokens_in_flight=0, max_tokens_in_flight=1)


def test_the_pool_and_its_route_fit_their_definitions(client: httpx.Client) -> None:
    """No package has the schemas of these two: their required fields and ranges, by hand."""
    pool, route = of_kind("InferencePool"), of_kind("HTTPRoute")
    assert pool["apiVersion"] == "inference.networking.k8s.io/v1"
    assert pool["spec"].keys() == {"selector", "targetPorts", "endpointPickerRef"}
    assert pool["spec"]["selector"].keys() == {"matchLabels"}
    assert pool["spec"]["endpointPickerRef"].keys() == {"name", "port", "failureMode"}
    assert pool["spec"]["endpointPickerRef"]["failureMode"] in ("FailOpen", "FailClose")
    port = of_kind("Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]
    assert pool["spec"]["targetPorts"] == [{"number": port}]
    (rule,) = route["spec"]["rules"]
    assert route["spec"].keys() == {"parentRefs", "rules"}
    assert rule["backendRefs"] == [
        {"group": pool["apiVersion"].split("/")[0], "kind": pool["kind"], "name": pool["metadata"]["name"]}
    ]
    for match in rule["matches"]:
        assert client.get(f"{match['path']['value']}/models").status_code == 200


@pytest.mark.slow
def test_the_inference_service_fits_kserves_models(tmp_path: Path) -> None:
    """KServe's own fields are those of its models, and the rest of the predictor is a pod."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path), KSERVE]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip(f"{KSERVE} cannot be downloaded: the InferenceService has not been compared with its models")
    (wheel,) = tmp_path.glob("kserve-*.whl")
    service = of_kind("InferenceService")
    predictor = service["spec"]["predictor"]
    with zipfile.ZipFile(wheel) as models:
        assert service.keys() - {"metadata"} <= fields(models, "v1beta1_inference_service")
        assert service["spec"].keys() <= fields(models, "v1beta1_inference_service_spec")
        assert predictor.keys() <= fields(models, "v1beta1_predictor_spec")
        own = fields(models, "v1beta1_component_extension_spec")
    assert {"minReplicas", "maxReplicas"} <= own
    pod = {name: value for name, value in predictor.items() if name not in own}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": pod}
    kubernetes_validate.validate(manifest, VERSION, strict=True)
    assert predictor["containers"][0]["name"] == "kserve-container"


def fields(models: zipfile.ZipFile, module: str) -> set[str]:
    """Return the names of a resource's fields in a module that was generated from KServe's OpenAPI document."""
    tree = ast.parse(models.read(f"kserve/models/{module}.py"))
    (table,) = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "attribute_map"
    )
    return set(ast.literal_eval(table).values())


def ray_pods() -> list[Manifest]:
    """Return the specifications of the pods of the RayService: of its head and of its workers."""
    cluster = of_kind("RayService")["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize("pod", ray_pods(), ids=["head", "workers"])
def test_pods_of_ray_are_pods_and_run_as_the_image_does(pod: Manifest) -> None:
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, "spec": pod}
    kubernetes_validate.validate(manifest, VERSION, strict=True)
    test_a_pod_runs_as_the_image_does_with_a_read_only_root(pod)
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert pod["containers"][0]["image"] == f"adamix:{own}-ray"


def test_the_ray_service_has_a_configuration_that_ray_and_the_server_take(
    tmp_path: Path,
) -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="the extra ray is not installed")
    spec = of_kind("RayService")["spec"]
    assert spec.keys() == {"serveConfigV2", "rayClusterConfig"}
    config = schema.ServeDeploySchema(**yaml.safe_load(spec["serveConfigV2"]))
    (application,) = config.applications
    assert application.import_path == IMPORT_PATH
    given = {**application.args, "adapter_dir": str(tmp_path)}
    cluster, argv = command_line(given)
    read = parse_args(argv)
    pod = ray_pods()[1]
    (container,) = pod["containers"]
    assert read.threads == cluster.cpus_per_replica == int(container["resources"]["requests"]["cpu"])
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    assert {application.args["bundles"][0], application.args["adapter_dir"]} <= mounts
    assert str(Path(application.args["api_keys"]).parent) in mounts
    assert config.http_options.port in [one["containerPort"] for one in container["ports"]]
    (workers,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    assert workers["maxReplicas"] >= cluster.max_replicas * cluster.cpus_per_replica / read.threads
    assert spec["rayClusterConfig"]["rayVersion"] == version("ray")
    assert pod["terminationGracePeriodSeconds"] > read.exit_timeout_secs + read.drain_delay + LAST_WORDS_SECONDS
