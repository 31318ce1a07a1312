"""Fields as JSON: there and back, and texts that somebody else wrote."""

import json
import random

import numpy as np
import pytest

import pynode as pn


@pn.field(
    state={"q": pn.bounded(0.5, -2.0, 2.0), "v": None},
    theta={"k": pn.positive(1.5), "net": pn.mlp(2, (3,), 1), "c": pn.frozen([1.0, 2.0])},
    inputs=1,
)
def mixed(t, y, th, u):
    return [np.where(y[1] > -np.inf, y[1], t), -th.k * y[0] + th.net(y)[0] + u[0] * th.c[1]]


FIELDS = [mixed, pn.mlp(3, (4,), skip=True), pn.gru_cell(2, 1), pn.rnn_cell(3, 2)]


@pytest.mark.parametrize("f", FIELDS, ids=lambda f: f.name)
def test_there_and_back(f):
    again = pn.Field.from_json(f.to_json())
    assert again.to_json() == f.to_json()
    assert again.spec == f.spec
    assert repr(again) == repr(f)
    theta = f.init(0)
    u = np.ones(f.inputs) if f.inputs else None
    assert np.array_equal(again(0.3, np.ones(f.d), theta, u), f(0.3, np.ones(f.d), theta, u))
    assert pn.Field.from_json(f.to_json().encode()).name == f.name


def test_infinite_constants_are_text():
    text = mixed.to_json()
    assert '"-inf"' in text
    json.loads(text, parse_constant=pytest.fail)


def test_callbacks_have_no_text():
    with pytest.raises(ValueError, match="only programs"):
        pn.callback_field(lambda t, y: -y, 1).to_json()


def changed(*path, to):
    """The text of `mixed` with one member changed."""
    data = json.loads(mixed.to_json())
    node = data
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = to
    return json.dumps(data)


CODE = json.loads(mixed.to_json())["program"]["code"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        ("[]", "must be an object"),
        ("{}", "missing"),
        ('{"format": NaN}', "NaN"),
        (changed("format", to="else"), "no field of pynode"),
        (changed("version", to=2), "version"),
        (changed("more", to=2), "unknown: .'more'"),
        (changed("name", to=3), "name must be a text"),
        (changed("out_shape", to=[3]), "out_shape"),
        (changed("out_shape", to=[-2]), "not negative"),
        (changed("parameters", 0, "offset", to=1), "offset"),
        (changed("parameters", 0, "shape", to=[2**30, 2**30]), "offset|numbers"),
        (changed("parameters", 0, "init", to=["normal"]), "init"),
        (changed("parameters", 0, "constraint", to=["bounded", 1]), "constraint"),
        (changed("states", 0, "constraint", to=["frozen"]), "state"),
        (changed("program", "consts", 0, to="big"), "consts"),
        (changed("program", "sizes", 0, to=2**40), "32 bits"),
        (changed("program", "sizes", 1, to=True), "32 bits"),
        (changed("program", "code", 0, to=[1, 2]), "eight numbers"),
        (changed("program", "code", 0, to=[0, 99999, *CODE[0][2:]]), "register"),
        (changed("program", "ops", 0, to="FLY"), "FLY"),
        (changed("program", "outputs", to=[]), "outputs|program"),
        (changed("program", "n_slots", to=-1), "slots|program"),
        (changed("program", "segments", to=[0, 1]), "segments"),
    ],
)
def test_texts_from_elsewhere(text, match):
    with pytest.raises(ValueError, match=match):
        pn.Field.from_json(text)


def test_not_a_text():
    with pytest.raises(TypeError, match="takes a text"):
        pn.Field.from_json({"format": "pynode-field"})


def test_thousand_hostile_texts():
    """Any change of any number or member gives a field or a ValueError."""
    rng = random.Random(0)
    values = [0, -1, 1, 7, 2**31, 2**70, 1e308, "inf", "x", None, True, [], {}, [[]]]
    for _ in range(1000):
        data = json.loads(mixed.to_json())
        for _ in range(rng.randint(1, 3)):
            node = data
            while True:
                keys = list(node) if isinstance(node, dict) else list(range(len(node)))
                if not keys:
                    break
                key = rng.choice(keys)
                if not isinstance(node[key], (dict, list)) or rng.random() < 0.1:
                    node[key] = rng.choice(values)
                    break
                node = node[key]
        try:
            f = pn.Field.from_json(json.dumps(data))
        except ValueError:
            continue
        f(0.0, np.ones(f.d), f.init(0), np.ones(f.inputs) if f.inputs else None)
