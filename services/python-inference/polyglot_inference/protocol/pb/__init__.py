"""Generated from services/contract/proto by services/contract/generate.sh; never edited but for this file."""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
"""Holds the contract's messages, apart from those of the same names that Triton's client declares."""
