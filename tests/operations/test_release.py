"""Edits are a set beside the pairs: any of them can be released, in any order, and no trace stays."""

import json
import pickle

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from assocmem import AssociativeMemory, Hebbian, RecursiveLeastSquares, Ridge
from assocmem.rules.constraints import RidgeProblem, Rows, ridge_under
from tests import naive
from tests.helpers import pairs, relative

KEY_DIM, EXPANSION, ALPHA = 8, 2, 0.5
RANK = KEY_DIM * (1 + EXPANSION)
RULES = [Ridge(ALPHA), RecursiveLeastSquares(ALPHA), Ridge()]
every_rule = pytest.mark.parametrize("rule", RULES, ids=str)
KEYS, VALUES = pairs(10, KEY_DIM, 2)  # stored and forgotten
EDITED, WANTED = pairs(6, KEY_DIM, 2, seed=1)
PROBES = np.vstack([pairs(40, KEY_DIM, 1, seed=2)[0], KEYS, EDITED])
METRICS = [None, 3 * pairs(100, KEY_DIM, 1, seed=3)[0], pairs(80, KEY_DIM, 1, seed=4)[0] * np.linspace(0.3, 2, KEY_DIM)]


def empty(rule, **options):
    return AssociativeMemory(KEY_DIM, 2, expansion=EXPANSION, rule=rule, **options)


def moment(memory, metric):
    """Second moment of folded features of a sample."""
    return None if metric is None else (lambda f: f.T @ f / len(f))(memory.features.fold(metric))


class Model:
    """The pairs, by number, and the rows (value, penalty, metric), by the number of their key."""

    def __init__(self):
        self.stored, self.rows = [], {}

    def fresh(self, rule):
        """A memory that never saw anything else, edited in another order."""
        memory = empty(rule)
        memory.store(KEYS[self.stored], VALUES[self.stored])
        for number, (value, penalty, metric) in reversed(self.rows.items()):
            memory.edit(EDITED[number], value, penalty=penalty, metric=METRICS[metric])
        return memory

    def expected(self, alpha):
        """Recalls of the probes by dense systems."""
        memory = empty(Ridge(alpha))
        fold = memory.features.fold
        rows = [(fold(EDITED[i : i + 1])[0], v, p, moment(memory, METRICS[m])) for i, (v, p, m) in self.rows.items()]
        features = fold(KEYS[self.stored]) if self.stored else np.empty((0, RANK))
        return fold(PROBES) @ naive.edited_ridge(features, VALUES[self.stored], alpha, rows)


steps = st.lists(
    st.tuples(
        st.sampled_from(["edit", "edit", "edit", "release", "release", "store", "forget"]),
        st.integers(0, 9),
        st.integers(0, 5),
        st.integers(0, 2),
        st.sampled_from([0.0, 0.0, 0.3]),
    ),
    min_size=4,
    max_size=14,
)


@every_rule
@given(steps=steps)
def test_a_memory_is_its_pairs_and_the_edits_that_were_not_released(rule, steps):
    memory, model = empty(rule), Model()
    memory.store(KEYS[:4], VALUES[:4])
    model.stored = [0, 1, 2, 3]
    for kind, number, other, metric, penalty in steps:
        edited = number % 6
        if kind == "store" and number not in model.stored:
            memory.store(KEYS[number], VALUES[number])
            model.stored.append(number)
        elif kind == "forget" and number in model.stored and len(model.stored) > 1:
            memory.forget(KEYS[number], VALUES[number])
            model.stored.remove(number)
        elif kind == "release" and edited in model.rows:
            assert memory.release(EDITED[edited]) == 1
            del model.rows[edited]
        elif kind == "edit":
            value = WANTED[edited] + metric
            kept = other if other != edited and other not in model.rows else None
            recalled = None if kept is None else memory.recall(EDITED[kept])
            memory.edit(
                EDITED[edited], value, None if kept is None else EDITED[kept], penalty=penalty, metric=METRICS[metric]
            )
            model.rows.pop(edited, None)
            model.rows[edited] = value, penalty, metric
            if kept is not None:
                model.rows[kept] = recalled, 0.0, metric
    assert memory.n_stored == len(model.stored)
    assert relative(memory.recall(PROBES), model.fresh(rule).recall(PROBES)) < 1e-8
    if rule.alpha:
        assert relative(memory.recall(PROBES), model.expected(rule.alpha)) < 1e-8
    exact = [number for number, (_, penalty, _) in model.rows.items() if penalty == 0]
    if exact:
        assert np.allclose(memory.recall(EDITED[exact]), [model.rows[number][0] for number in exact], atol=1e-9)


@every_rule
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_was_released_stands_nowhere(rule, dtype, tmp_path):
    """The deletion of a key with a fixed recall is refused, and complete after its release."""
    memory = empty(rule, dtype=dtype)
    memory.store(KEYS, VALUES)
    memory.edit(EDITED[0], WANTED[0], preserve=KEYS[5])
    before = memory.recall(PROBES)
    with pytest.raises(ValueError, match=r"key 0 has a recall that is fixed by edit.*release\(keys\).*nothing was ch"):
        memory.forget(KEYS[5], VALUES[5])
    assert np.array_equal(memory.recall(PROBES), before)
    assert memory.verify_forgotten(KEYS[5]).max_copies > 0.5
    assert memory.release(KEYS[5]) == 1
    memory.forget(KEYS[5], VALUES[5])
    assert memory.verify_forgotten(KEYS[5]).max_copies < (1e-5 if dtype == "float64" else 1e-2)
    memory.save(tmp_path / "memory")
    holds = memory.features.fold(KEYS[5].astype(dtype)[None])
    for content in (pickle.dumps(memory), (tmp_path / "memory").read_bytes()):
        for table in (holds[0], KEYS[5], holds[0] / np.linalg.norm(holds[0])):
            for kind in (np.float64, np.float32):
                assert table.astype(kind)[:3].tobytes() not in content
    edited = memory.features.fold(EDITED[:1].astype(dtype))[0].astype(np.float64)
    assert edited.tobytes() in pickle.dumps(memory)  # as one that was not released does


def test_release_of_keys_that_were_never_edited_is_refused():
    memory = empty(Ridge())
    memory.store(KEYS, VALUES)
    with pytest.raises(ValueError, match=r"none of the 2 keys was edited or preserved, of 0 that were.*nothing was c"):
        memory.release(KEYS[:2])
    memory.edit(EDITED[:2], WANTED[:2])
    before = memory.recall(PROBES)
    with pytest.raises(ValueError, match="none of the 10 keys was edited or preserved, of 2 that were"):
        memory.release(KEYS)
    assert np.array_equal(memory.recall(PROBES), before)
    assert memory.release(np.vstack([KEYS, 3.0 * EDITED])) == 2  # multiples of them; others are passed over
    assert memory.release([]) == 0
    with pytest.raises(ValueError, match="cannot hold an edit"):
        empty(Hebbian()).release(KEYS[0])


def test_rows_that_depend_on_others_are_kept_until_their_own_release():
    """Three keys in a line have dependent features, without the mean taken out: two recalls determine the third."""
    memory = empty(Ridge(ALPHA), whiten=False)
    memory.store(KEYS, VALUES)
    line = EDITED[1] + np.array([[0.0], [0.01], [0.02]]) * EDITED[2]
    memory.edit(EDITED[0], WANTED[0], preserve=line)
    kept = memory.recall(line)
    for released, still in ((1, [0, 1, 2]), (0, [2])):
        memory.release(line[released])
        memory.forget(KEYS[released], VALUES[released])
        assert relative(memory.recall(line[still]), kept[still]) < 1e-9
    assert relative(memory.recall(line[0]), kept[0]) > 1e-3


def test_where_edits_determine_every_recall_the_message_says_so():
    memory, many = empty(Ridge(ALPHA)), pairs(RANK, KEY_DIM, 2, seed=8)
    memory.store(KEYS, VALUES)
    memory.edit(*many, penalty=0.1)
    with pytest.raises(ValueError, match="but those determine the recall of one; release them instead"):
        memory.release(KEYS[0])


@every_rule
def test_later_writes_change_neither_edited_nor_preserved_recalls(rule):
    memory = empty(rule)
    memory.store(KEYS, VALUES)
    kept = memory.recall(EDITED[3:5])
    memory.edit(EDITED[0], WANTED[0], preserve=EDITED[3], metric=METRICS[1])
    memory.edit(EDITED[1], WANTED[1], preserve=EDITED[4])
    kept[1] = memory.recall(EDITED[4])
    memory.edit(EDITED[2], WANTED[2], metric=METRICS[2])
    more = pairs(30, KEY_DIM, 2, seed=9)
    memory.store(*more)
    memory.forget(KEYS[:5], VALUES[:5])
    assert relative(memory.recall(EDITED[:3]), WANTED[:3]) < 1e-9
    assert relative(memory.recall(EDITED[3:5]), kept) < 1e-8


@pytest.mark.parametrize("penalty", [1e-30, 1e-12, 1e-3, 1.0, 1e6, 1e30])
def test_a_penalty_of_any_size_costs_other_recalls_no_digits(penalty):
    """A pair of weight 1e12 in the sums would."""
    memory = empty(Ridge(ALPHA))
    memory.store(KEYS, VALUES)
    memory.edit(EDITED[:2], WANTED[:2], penalty=penalty)
    fold = memory.features.fold
    plain = fold(KEYS).T @ fold(KEYS) + ALPHA * np.eye(RANK)
    weights, rows = np.linalg.solve(plain, fold(KEYS).T @ VALUES), fold(EDITED[:2])
    inner = rows @ np.linalg.solve(plain, rows.T) + penalty * np.eye(2)
    weights += np.linalg.solve(plain, rows.T) @ np.linalg.solve(inner, WANTED[:2] - rows @ weights)
    assert relative(memory.recall(PROBES), fold(PROBES) @ weights) < 1e-11


def test_rows_with_slack_that_depend_on_each_other():
    """More soft rows than dimensions are least squares."""
    rng = np.random.default_rng(0)
    features, rows, slack = rng.standard_normal((6, 5)), rng.standard_normal((9, 5)), rng.uniform(0.1, 2, 9)
    values, wanted = rng.standard_normal((6, 2)), rng.standard_normal((9, 2))
    problem = RidgeProblem(features.T @ features, features.T @ values, 0.3, 0.0, 0.0)
    found, _ = ridge_under(Rows(rows, wanted, slack), problem)
    root = np.sqrt(slack)[:, None]
    assert (
        relative(found, naive.ridge(np.vstack([features, rows / root]), np.vstack([values, wanted / root]), 0.3))
        < 1e-12
    )


@every_rule
def test_merged_memories_have_the_edits_of_both_once(rule):
    one, other = empty(rule), empty(rule)
    one.store(KEYS[:5], VALUES[:5])
    one.edit(EDITED[0], WANTED[0], metric=METRICS[1])
    one.edit(EDITED[1], WANTED[1], penalty=0.5)
    other = one.copy()
    other.forget(KEYS[:5], VALUES[:5])
    other.store(KEYS[5:], VALUES[5:])
    other.edit(EDITED[2], WANTED[2])
    merged = one.merge(other)
    fresh = empty(rule)
    fresh.edit(EDITED[2], WANTED[2])
    fresh.edit(EDITED[1], WANTED[1], penalty=0.5)
    fresh.edit(EDITED[0], WANTED[0], metric=METRICS[1])
    fresh.store(KEYS, VALUES)
    assert relative(merged.recall(PROBES), fresh.recall(PROBES)) < 1e-8


# --------------------------------------------------------------------------------------------------------- files


def rewritten(path, change):
    """A file with other arrays."""
    with safetensors.safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["assocmem"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(arrays)
    safetensors.numpy.save_file(arrays, path, {"assocmem": json.dumps(header)})


@every_rule
def test_files_without_directions_and_slack_load(rule, tmp_path):
    """Format 3 knew exact rows in the metric of what is stored, and sums that an edit in another one had shifted."""
    memory = empty(rule)
    memory.store(KEYS, VALUES)
    memory.edit(EDITED[0], WANTED[0], preserve=KEYS[5])
    memory.save(tmp_path / "memory")

    def older(arrays):
        del arrays["constraint_directions"], arrays["constraint_slack"]
        arrays["n_shifted"] = np.array(1)
        arrays["cross"] = arrays["cross"] + 0.1 * arrays["cross"][:, ::-1]
        arrays["weights"] = arrays["weights"] + 0.1

    rewritten(tmp_path / "memory", older)
    loaded = AssociativeMemory.load(tmp_path / "memory")
    fold = memory.features.fold(PROBES)
    assert relative(loaded.recall(PROBES), memory.recall(PROBES) + 0.1 * fold.sum(axis=1, keepdims=True)) < 1e-12
    loaded.store(KEYS[0], VALUES[0])
    assert relative(loaded.recall(EDITED[0]), WANTED[0]) < 1e-9
    assert loaded.release(np.vstack([EDITED[:1], KEYS[5:6]])) == 2


@pytest.mark.parametrize("change", [
    lambda arrays: arrays.pop("constraint_values"),
    lambda arrays: arrays.update(constraint_slack=np.zeros(3)),
    lambda arrays: arrays.update(constraint_directions=arrays["constraint_directions"][:1]),
    lambda arrays: arrays.pop("constraint_features"),
])  # fmt: skip
def test_files_with_tables_of_different_lengths_are_refused(change, tmp_path):
    memory = empty(Ridge())
    memory.edit(EDITED[:2], WANTED[:2])
    memory.save(tmp_path / "memory")
    rewritten(tmp_path / "memory", change)
    with pytest.raises(ValueError, match="do not match the header"):
        AssociativeMemory.load(tmp_path / "memory")


# -------------------------------------------------------------------------------------------------------- growth


@pytest.mark.parametrize(("distance", "expected"), [(1e-2, 9), (1e-3, 90), (1e-5, 9000)])
def test_edits_of_nearly_equal_keys_warn_and_report_the_growth(distance, expected):
    keys, values = pairs(50, 64, 4)
    memory = AssociativeMemory(64, 4)
    memory.store(keys, values)
    (first, _), wanted = pairs(2, 64, 4, seed=5)
    step = pairs(1, 64, 1, seed=6)[0][0]
    near, probes = first + distance * np.linalg.norm(first) / np.linalg.norm(step) * step, pairs(200, 64, 1, seed=9)[0]
    assert memory.edit(first, wanted[0]).growth < 1.1
    before = memory.recall(probes)
    with pytest.raises(UserWarning, match=r"recalls of other keys .* times as long as usual.*pass penalty="):
        memory.edit(near, wanted[1])
    assert np.array_equal(memory.recall(probes), before)  # as an error, the warning comes before the change
    soft = memory.copy().edit(near, wanted[1], penalty=1e4, metric=probes)
    with pytest.warns(UserWarning, match="nearly repeats another one"):
        edit = memory.edit(near, wanted[1])
    growth = np.linalg.norm(memory.recall(probes)) / np.linalg.norm(before)
    assert expected / 2 < growth < 2 * expected
    assert growth == pytest.approx(edit.growth, rel=0.2)
    assert soft.growth < 2
    assert f"growth {edit.growth:.3g}" in repr(edit)


@pytest.mark.parametrize(("scale", "unit"), [(1e-140, 1e100), (1e140, 1e-100), (1e140, 1e100)])
@pytest.mark.parametrize("metric", [False, True])
def test_edits_of_any_units_are_the_same(scale, unit, metric):
    """Weights of 1e240 have no squares: contradictions are told apart all the same."""
    found = []
    for s, u in ((1.0, 1.0), (scale, unit)):
        memory = empty(Ridge())
        memory.store(s * KEYS, u * VALUES)
        sample = s * METRICS[1] if metric else None
        edit = memory.edit(s * EDITED[:2], u * WANTED[:2], s * KEYS[5], metric=sample)
        found.append(np.append(memory.recall(s * PROBES) / u, edit.growth))
        with pytest.raises(ValueError, match="or are both edited and preserved"):
            memory.edit(s * EDITED[0], -u * WANTED[0], s * EDITED[0])
        memory.release(s * np.vstack([EDITED[:2], KEYS[5:6]]))
        found[-1] = np.append(found[-1], memory.recall(s * PROBES) / u)
    assert relative(found[1], found[0]) < 1e-9
