"""The other examples run as their READMEs say: a Python class, and a model on a GPU."""

import json

from tests.e2e.clients import ClientPods
from tests.e2e.cluster import Command
from tests.e2e.services import EXAMPLES, Service, assert_predicts_as_onnx_runtime, wait_until_routed


def test_a_python_class_answers(kubectl: Command, client_pods: ClientPods) -> None:
    service = Service(kubectl, client_pods.namespace, "text-statistics")
    kubectl("apply", "-n", service.namespace, "-k", str(EXAMPLES / "python-model"))
    client = client_pods.start("python-client", mesh=False)
    service.wait_ready()
    wait_until_routed(client, service, "text-statistics")
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["one two three", "größer"]}]}
    reply = client.post(service.infer_url("text-statistics"), body)
    outputs = {output["name"]: output["data"] for output in reply["outputs"]}
    assert outputs["words"] == [3, 1]
    assert outputs["characters"] == [13, 6]


def test_a_storyteller_answers(kubectl: Command, client_pods: ClientPods) -> None:
    service = Service(kubectl, client_pods.namespace, "storyteller")
    kubectl("apply", "-n", service.namespace, "-k", str(EXAMPLES / "streaming"))
    client = client_pods.start("story-client", mesh=False)
    service.wait_ready()
    wait_until_routed(client, service, "storyteller")
    body = {
        "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["Alice was"]}],
        "parameters": {"max_words": 10, "seed": 7},
    }
    (story,) = client.post(service.infer_url("storyteller"), body)["outputs"][0]["data"]
    assert story.startswith("Alice was ")
    assert len(story.split()) == 10


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
    wait_until_routed(client, service)
    assert_predicts_as_onnx_runtime(client, service)
    assert service.condition("AcceleratorsAvailable")["status"] == "True"
