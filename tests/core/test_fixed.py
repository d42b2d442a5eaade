"""What others have computed from cannot be changed behind their back."""

import numpy as np
import pytest

from assocmem import AssociativeMemory, Ridge


def memory():
    one = AssociativeMemory(8, 2)
    one.store(np.eye(8), np.ones((8, 2)))
    return one


PLACES = {
    "memory": lambda: memory(),
    "features": lambda: memory().features,
    "projection": lambda: memory().features.projection,
    "frozen": lambda: memory().freeze(),
}


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("memory", "rule", Ridge(1000.0)),
        ("memory", "rule", "rls"),
        ("memory", "value_dim", 5),
        ("memory", "key_dim", 5),
        ("memory", "alpha", 1.0),
        ("memory", "n_stored", 0),
        ("features", "bias", 2.0),
        ("features", "whiten", False),
        ("features", "projection", None),
        ("projection", "signs", None),
        ("projection", "seed", 1),
        ("frozen", "weights", None),
        ("frozen", "features", None),
    ],
)
def test_attributes_are_set_once(place, name, value):
    one = PLACES[place]()
    before = getattr(one, name)
    with pytest.raises(AttributeError):
        setattr(one, name, value)
    assert getattr(one, name) is before or np.array_equal(getattr(one, name), before)


def test_the_message_names_what_and_where():
    with pytest.raises(AttributeError, match="bias of a CReLUFeatures cannot be changed; build another one"):
        memory().features.bias = 2.0
