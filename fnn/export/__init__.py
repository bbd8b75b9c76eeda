"""Networks and data in other formats. Not imported by `import fnn`: it needs the extra `fnn[export]`."""

from fnn.export.chain import from_onnx as from_onnx
from fnn.export.graph import onnx as onnx
from fnn.export.records import read_records as read_records
from fnn.export.records import write_records as write_records
from fnn.export.tensors import load_params as load_params
from fnn.export.tensors import save_params as save_params
