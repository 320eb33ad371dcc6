"""The other examples run as their READMEs say: a Python class, and a model on a GPU."""

import json

from tests import digits as example
from tests.e2e.clients import ClientPod, ClientPods
from tests.e2e.cluster import Command
from tests.e2e.services import EXAMPLES, Service


def infer(client: ClientPod, service: Service, model: str, body: object) -> object:
    """Send an OIP REST request to a service's gateway from inside the cluster."""
    url = f"http://{service.name}-gateway.{service.namespace}.svc.cluster.local:8000/v2/models/{model}/infer"
    script = f"""
import json, urllib.request
request = urllib.request.Request({url!r}, data={json.dumps(body)!r}.encode())
print(urllib.request.urlopen(request, timeout=15).read().decode())
"""
    return json.loads(client.python(script))


def test_a_python_class_answers(kubectl: Command, client_pods: ClientPods) -> None:
    service = Service(kubectl, client_pods.namespace, "text-statistics")
    kubectl("apply", "-n", service.namespace, "-k", str(EXAMPLES / "python-model"))
    client = client_pods.start("python-client", mesh=False)
    service.wait_ready()
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["one two three", "größer"]}]}
    reply = infer(client, service, "text-statistics", body)
    assert isinstance(reply, dict)
    outputs = {output["name"]: output["data"] for output in reply["outputs"]}
    assert outputs["words"] == [3, 1]
    assert outputs["characters"] == [13, 6]


def test_a_gpu_model_gets_its_device_from_the_kubelet(kubectl: Command, client_pods: ClientPods) -> None:
    service = Service(kubectl, client_pods.namespace, "digits-gpu")
    service.apply("digits/model.yaml", "gpu/gpu.yaml")
    client = client_pods.start("gpu-client", mesh=False)
    service.wait_ready()
    (pod,) = service.pods("inference")
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    seen = kubectl(
        "exec", "-n", service.namespace, pod["metadata"]["name"], "-c", "inference", "--",
        "/opt/venv/bin/python", "-c", "import os; print(os.environ['NVIDIA_VISIBLE_DEVICES'])",
    )  # fmt: skip
    assert len(seen.strip().split(",")) == 1
    assert seen.strip()
    (gateway,) = service.pods("gateway")
    assert "nvidia.com/gpu" not in json.dumps(gateway["spec"])
    pixels = example.held_out()[:5]
    reply = infer(client, service, "digits", example.rest_body(pixels))
    assert isinstance(reply, dict)
    label, _ = example.rest_answer(reply)
    assert label.tolist() == example.oracle(pixels)[0].tolist()
    assert service.condition("AcceleratorsAvailable")["status"] == "True"
