"""Programs and the builder: simplification, segments, files, the C core's checks."""

import copy
import json
import pickle

import numpy as np
import pytest

from pynode import _core
from pynode.fields.make import mlp
from pynode.programs.builder import Builder
from pynode.programs.derivatives import vjp_program
from pynode.programs.program import NAMES, OPS, Program


def ops(b, *outputs):
    return [ins.op for ins in b.finish(outputs).instructions]


@pytest.fixture
def b():
    """Slots of sizes 1, 4; twelve parameters."""
    return Builder((1, 4), (12,), (12,))


# ---- Writing


def test_the_same_instruction_is_written_once(b):
    assert b.sin(1) == b.sin(1)
    assert b.add(1, b.sin(1)) == b.add(b.sin(1), 1)
    assert b.sub(1, b.sin(1)) != b.sub(b.sin(1), 1)
    assert b.const([1.0, 2.0]) == b.const([1.0, 2.0])
    assert b.const([0.0]) != b.const([-0.0])


def test_exact_simplifications(b):
    x, one, zero = b.sin(1), b.full(4, 1.0), b.full(4, 0.0)
    assert b.neg(b.neg(x)) == x
    assert b.add(x, zero) == b.sub(x, zero) == b.add(zero, x) == x
    assert b.sub(zero, x) == b.neg(x)
    assert b.mul(x, one) == b.mul(one, x) == b.div(x, one) == x
    assert b.mul(x, b.full(4, -1.0)) == b.neg(x)
    assert b.mul(x, x) == b.square(x)
    assert b.add(x, b.neg(1)) == b.sub(x, 1)
    assert b.sub(x, b.neg(1)) == b.add(x, 1)
    assert b.where(one, x, 1) == x and b.where(zero, x, 1) == 1
    assert b.mul(x, zero) != zero  # 0 * inf is not 0
    assert b.const_value(b.div(b.full(2, 1.0), b.const([2.0, 4.0]))).tolist() == [0.5, 0.25]
    assert b.const_value(b.exp(one)) is None


def test_moves_look_through_moves(b):
    x = b.sin(1)
    assert b.gather(x, [0, 1, 2, 3]) == x
    assert b.slice(b.slice(x, 1, 3), 1, 2) == b.slice(x, 2, 2)
    assert b.slice(b.slice(x, 3, 4, -1), 3, 4, -1) == x
    assert b.gather(b.gather(x, [3, 0, 0]), [2, 0]) == b.gather(x, [0, 3])
    assert b.slice(b.concat(x, 1), 4, 4) == 1
    assert b.slice(b.concat(x, 1), 1, 2) == b.slice(x, 1, 2)
    assert b.concat(b.slice(x, 0, 1), b.slice(x, 1, 2), b.slice(x, 3, 1)) == x
    assert b.slice(b.broadcast(0, 5), 2, 1) == 0
    assert b.scatter(b.gather(x, [2, 0, 3, 1]), [2, 0, 3, 1], 4) == x
    assert b.slice(b.theta(), 3, 4) == b.param(3, 4)
    assert b.concat(b.param(3, 4), b.param(7, 2)) == b.param(3, 6)
    assert b.const_value(b.gather(b.const([5.0, 6.0]), [1, 1])).tolist() == [6.0, 6.0]


def test_products_with_parameters(b):
    W, bias = b.param(0, 8), b.param(8, 2)
    product = b.matvec(W, 1)
    assert ops(b, product) == ["AFFINE"]
    assert ops(b, b.add(product, bias)) == ops(b, b.add(bias, product)) == ["AFFINE"]
    assert ops(b, b.matvec_t(b.param(0, 8), b.slice(1, 0, 2))) == ["SLICE", "AFFINE_T"]
    transposed = b.gather(W, np.arange(8).reshape(2, 4).T)
    assert b.matvec_t(transposed, 1) == product
    assert b.matvec(transposed, b.slice(1, 0, 2)) == b.matvec_t(W, b.slice(1, 0, 2))
    other = Builder((4,), (12, 12))
    assert ops(other, other.add(other.matvec(other.param(0, 8), 0), other.param(8, 2, k=1))) == [
        "PARAM",
        "AFFINE",
        "ADD",
    ]


def test_an_outer_product_that_is_accumulated(b):
    b.acc(0, 0, b.outer(1, b.slice(1, 0, 3)))
    assert ops(b, 1) == ["SLICE", "ACC_OUTER"]


def test_outer_products_in_sums_are_accumulated_by_themselves(b):
    t, y = 0, b.slice(1, 0, 3)
    product = b.outer(y, y)
    swapped = b.gather(b.neg(b.outer(b.tanh(y), y)), np.arange(9).reshape(3, 3).T.ravel())
    b.acc(0, 0, b.sub(product, swapped))
    assert [ins.op for ins in b.accumulated] == ["ACC_OUTER", "ACC_OUTER"]
    b.accumulated.clear()
    b.acc(0, 0, b.add(b.broadcast(t, 9), b.gather(y, np.arange(9) % 3)))
    assert [ins.op for ins in b.accumulated] == ["ACC"]


def test_wrong_sizes_are_refused(b):
    with pytest.raises(ValueError, match="different sizes"):
        b.add(0, 1)
    with pytest.raises(ValueError, match="empty"):
        b.const([])


# ---- Finishing


def test_segments_and_dead_code(b):
    k = b.exp(b.param(0, 4))
    value, dead = b.mul(1, k), b.cos(1)
    late = b.tanh(b.mul(dead, b.param(4, 4)))
    unused = b.sin(late)
    b.acc(0, 0, late)
    program = b.finish([value, None, b.square(1)], forward=1)
    assert program.segments == (3, 1, 4)
    assert [ins.op for ins in program.instructions] == [
        *("PARAM", "EXP", "PARAM"),
        "MUL",
        *("COS", "MUL", "TANH", "SQUARE"),
        "ACC",
    ]
    assert unused < len(b.sizes) and len(program.sizes) == 2 + 8
    assert program.outputs[1] == -1 and program.output_sizes == (4, None, 4)
    program.check()


def test_only_live_constants_are_kept(b):
    b.const(np.arange(4.0))
    b.gather(1, [3, 0, 0, 1])
    x = b.gather(b.add(1, b.full(4, 2.5)), [1, 0, 0])
    program = b.finish([x])
    assert program.consts.tolist() == [2.5] * 4 and program.index.tolist() == [1, 0, 0]


def test_a_slot_may_be_an_output(b):
    program = b.finish([1])
    assert program.outputs == (1,) and len(program.code) == 0
    (y,), _ = program.evaluate([np.zeros((2, 1)), np.arange(8.0).reshape(2, 4)], [np.zeros(12)])
    assert y.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_inline_with_parameters_elsewhere():
    """A program inside another one: its parameters at an offset, or computed."""
    inner = mlp(2, (3,))
    n = inner.n_params
    outer = Builder((1, 2, 0), (n + 4,))
    shifted = outer.slice(outer.theta(), 4, n)
    (value,) = outer.inline(inner.program, outer.slots, [shifted])
    assert ops(outer, value) == ["AFFINE", "TANH", "AFFINE"]
    (computed,) = outer.inline(inner.program, outer.slots, [outer.mul(shifted, shifted)])
    rng = np.random.default_rng(0)
    t, y, u, theta = np.zeros((5, 1)), rng.normal(size=(5, 2)), np.zeros((5, 0)), rng.normal(size=n + 4)
    outputs, _ = outer.finish([value, computed]).evaluate([t, y, u], [theta])
    np.testing.assert_allclose(outputs[0], inner(0, y, theta[4:]), rtol=1e-13)
    np.testing.assert_allclose(outputs[1], inner(0, y, theta[4:] ** 2), rtol=1e-13)


# ---- Programs as data


@pytest.fixture
def program():
    return vjp_program(mlp(2, (3,), time=True).program)


def same_data(p, q):
    return all(
        np.array_equal(getattr(p, name), getattr(q, name))
        for name in (
            "sizes",
            "n_slots",
            "code",
            "consts",
            "index",
            "outputs",
            "n_theta",
            "n_grad",
            "segments",
        )
    )


def test_copies(program):
    program.check()
    for twin in (copy.copy(program), copy.deepcopy(program), pickle.loads(pickle.dumps(program))):
        assert "core" not in twin.__dict__
        assert same_data(program, twin)
        twin.check()


def test_it_is_frozen(program):
    with pytest.raises(ValueError, match="read-only"):
        program.code[0, 0] = 3


def test_to_dict(program):
    data = program.to_dict()
    assert same_data(Program.from_dict(data), program)
    plain = json.loads(json.dumps({k: np.asarray(v).tolist() for k, v in data.items()}))
    assert same_data(Program.from_dict(plain), program)
    assert set(data["ops"]) == {ins.op for ins in program.instructions}


def test_from_dict_refuses(program):
    data = program.to_dict()
    with pytest.raises(ValueError, match="does not know: FLY"):
        Program.from_dict({**data, "ops": [*data["ops"][:-1], "FLY"]})
    code = data["code"].copy()
    code[0, 0] = 99
    with pytest.raises(ValueError, match="outside its own table"):
        Program.from_dict({**data, "code": code})


def test_the_core_refuses_a_program_that_reads_outside(program):
    data = program.to_dict()
    code = data["code"].copy()
    affine = [ins.op for ins in program.instructions].index("AFFINE")
    code[affine, 5] = 10_000
    with pytest.raises(ValueError, match="AFFINE"):
        Program.from_dict({**data, "code": code}).check()


def test_listing(program):
    text = program.disassemble()
    assert text.splitlines()[0] == repr(program)
    for part in (
        "forward:",
        "reverse:",
        "accumulate:",
        "W=theta0[0:9] b=theta0[9:12]",
        "+= ACC_OUTER",
        "outputs",
    ):
        assert part in text
    b = Builder((1, 4), (3,))
    x = b.mul(b.gather(1, [2, 2, 0]), b.scatter(b.slice(1, 0, 2), [0, 0], 3))
    x = b.add(b.add(x, b.const(np.arange(3))), b.param(0, 3))
    x = b.concat(b.add(x, b.slice(1, 3, 3, -1)), b.emit("CALL", 2))
    text = b.finish([x, None]).disassemble()
    for part in (
        "GATHER r1[2 2 0]",
        "SCATTER r",
        "CONST [0. 1. 2.]",
        "[3 + -1 i]",
        "CALL 0",
        "prologue",
        ", 0",
    ):
        assert part in text


def test_operations_come_from_the_core():
    assert OPS is _core.OPS
    assert [NAMES[row["code"]] for row in OPS.values()] == list(OPS)
    assert hasattr(Builder, "tanh") and not hasattr(Builder, "affine")


def test_uses_slot():
    b = Builder((1, 2, 1))
    assert b.finish([b.sin(1)]).uses_slot(1) and not b.finish([b.sin(1)]).uses_slot(0)
    assert b.finish([2]).uses_slot(2)
    assert b.finish([b.emit("CALL", 2)]).uses_slot(0)
