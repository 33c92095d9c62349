"""Trees as bytes: everything comes back as it was, and nothing else is taken."""

import json
import struct

import numpy as np
import pytest
import torch

from apportion.run.tree import from_bytes, to_bytes


def test_every_leaf_comes_back_with_its_type_shape_and_bits():
    flat = torch.arange(6, dtype=torch.float64)
    tree = {
        "arrays": {"f": np.float32([[np.nan, np.inf], [-0.0, 1e-40]]), "b": np.array([True]), "none": np.zeros((0, 3))},
        "tensors": [flat[:3], flat[3:].view(3, 1), torch.tensor(7, dtype=torch.int16), torch.eye(2).bfloat16()],
        "transposed": np.arange(6).reshape(2, 3).T,
        "plain": [1, -2.5, float("inf"), "ö", True, None, {}, []],
        "a/b": 1, "a": {"b": 2},
    }  # fmt: skip
    back = from_bytes(to_bytes(tree))
    assert list(back) == list(tree) and back["plain"] == tree["plain"] and back["a/b"] == 1 and back["a"] == {"b": 2}
    for name, array in tree["arrays"].items():
        assert back["arrays"][name].dtype == array.dtype and back["arrays"][name].shape == array.shape
        assert back["arrays"][name].tobytes() == array.tobytes()
    np.testing.assert_array_equal(back["transposed"], tree["transposed"])
    for ours, theirs in zip(tree["tensors"], back["tensors"], strict=True):
        assert theirs.dtype == ours.dtype and torch.equal(theirs, ours)


def test_what_comes_back_shares_nothing_and_can_be_written_to():
    array, tensor = np.zeros(3), torch.zeros(3)
    data = to_bytes({"array": array, "tensor": tensor})
    array += 1
    tensor += 1
    back = from_bytes(data)
    back["array"][0] = 5.0
    back["tensor"][0] = 5.0
    assert back["array"].tolist() == back["tensor"].tolist() == [5.0, 0.0, 0.0]
    assert array.tolist() == tensor.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("tree", "what"),
    [
        ({"a": {"b": (1, 2)}}, "a/b is a tuple"),
        ({"a": [np.float64(1.0)]}, "a/0 is a float64"),
        ({"a": {1: 2}}, "key 1 at a"),
        ({"$tensor": 1}, r"key '\$tensor' at the top"),
        ({"f": print}, "f is a builtin_function_or_method"),
    ],
)
def test_what_would_not_come_back_is_refused(tree, what):
    with pytest.raises(TypeError, match=what):
        to_bytes(tree)


def test_bytes_that_are_no_tree_are_refused():
    whole = to_bytes({"x": np.ones(4)})
    lost = json.dumps({"x": {"$array": "9"}}).encode()
    for data in (b"", b"1234567", whole[:20], whole[:-1], struct.pack("<Q", 10**9), whole[:8] + b"!" + whole[9:]):
        with pytest.raises(ValueError, match="are no tree"):
            from_bytes(data)
    with pytest.raises(ValueError, match="are no tree"):
        from_bytes(struct.pack("<Q", len(lost)) + lost + whole[8 + struct.unpack("<Q", whole[:8])[0] :])
