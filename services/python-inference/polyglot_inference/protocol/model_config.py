"""A model's configuration, as Triton describes one."""

from collections.abc import Iterable
from typing import Final, TypeVar

from polyglot_inference.protocol.pb import model_config_pb2 as pb
from polyglot_inference.repository.served import ServedModel
from polyglot_inference.runtime import author, onnx
from polyglot_inference.tensors import BYTES, TensorSpec

# By format: what runs the model, and the file it is in.
_BACKENDS: Final = {"ONNX": ("onnxruntime", onnx.FILE_NAME), "Python": ("python", author.FILE_NAME)}

Tensor = TypeVar("Tensor", pb.ModelInput, pb.ModelOutput)


def model_config(served: ServedModel) -> pb.ModelConfig:
    """Describe a loaded model.

    As Triton has it, shapes leave out the rows of a batch where `max_batch_size` is above 0.
    """
    batching = served.settings.batching
    backend, file_name = _BACKENDS[served.settings.format]
    config = pb.ModelConfig(
        name=served.name,
        platform=served.model.platform,
        backend=backend,
        default_model_filename=file_name,
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=1)),
        max_batch_size=served.max_batch_size,
        input=_tensors(pb.ModelInput, served.model.inputs, batching is not None),
        output=_tensors(pb.ModelOutput, served.model.outputs, batching is not None),
        instance_group=[
            pb.ModelInstanceGroup(
                name=served.name,
                # The model's runtime chooses its device.
                kind=pb.ModelInstanceGroup.KIND_MODEL,
                count=served.model.concurrency,
            )
        ],
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=served.model.stream is not None),
    )
    if batching:
        config.dynamic_batching.max_queue_delay_microseconds = round(batching.max_delay.total_seconds() * 1e6)
    return config


def _tensors(message: type[Tensor], specs: Iterable[TensorSpec], batched: bool) -> list[Tensor]:
    return [
        message(name=spec.name, data_type=_data_type(spec.datatype), dims=spec.shape[1:] if batched else spec.shape)
        for spec in specs
    ]


def _data_type(datatype: str) -> pb.DataType.ValueType:
    return pb.DataType.Value("TYPE_STRING" if datatype == BYTES else f"TYPE_{datatype}")
