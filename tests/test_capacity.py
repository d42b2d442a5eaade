"""Measurement, planning and diagnosis: the laws against simulation, and the tables they come in."""

from __future__ import annotations

import csv
import io
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assocmem import AssociativeMemory, CReLUFeatures, DeltaRule, Hebbian, RecursiveLeastSquares, Ridge, laws
from assocmem.capacity import CapacityTable, interval, measure, noisy_keys, plan


@pytest.mark.parametrize(
    "rule",
    ["hebbian", "delta", DeltaRule(rate=0.5), "ridge", Ridge(alpha=100.0), Ridge(query_cosine=0.9), "rls"],
    ids=str,
)
@pytest.mark.parametrize(("kind", "value_dim"), [("sign", 8), ("gaussian", 8), ("onehot", 10)])
def test_every_law_is_what_simulation_finds(rule, kind: str, value_dim: int) -> None:
    table = measure(
        rule, key_dim=96, value_dim=value_dim, expansion=2, loads=[0.3, 0.7, 1.6], query_cosines=[1.0, 0.85], kind=kind
    )
    for point in table.points:
        # The interval, and 3 % for the finite size of the memory.
        slack = 0.03 * point.predicted + 1e-6
        assert point.low - slack <= point.predicted <= point.high + slack, point
    assert max(point.measured for point in table.points) > 0.05


@pytest.mark.parametrize(("key_dim", "expansion"), [(128, 3), (64, 8), (100, 4)])
def test_crowding_and_feature_cosine_are_those_of_the_features(key_dim: int, expansion: int) -> None:
    rng = np.random.default_rng(0)
    features = CReLUFeatures(key_dim, expansion)
    keys = rng.standard_normal((16000, key_dim))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    one, two = np.split(features.fold(keys), 2)
    # Independent halves: their covariances have independent noise, so the product of the two is unbiased.
    found = np.vdot(one.T @ one / len(one), two.T @ two / len(two)) / features.rank
    assert found == pytest.approx(laws.crowding(key_dim, expansion), abs=0.025)
    queries = noisy_keys(keys[:2000], 0.8, rng)
    cosines = np.sum(features.fold(queries) * one[:2000], axis=1) / np.sum(one[:2000] ** 2, axis=1)
    assert cosines.mean() == pytest.approx(float(laws.feature_cosine(0.8, key_dim, expansion)), abs=0.01)


def test_the_law_of_codewords() -> None:
    rng, d, v, classes = np.random.default_rng(0), 128, 64, 200
    memory = AssociativeMemory(d, v, expansion=3, rule="hebbian")
    keys = rng.standard_normal((1536, d))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    values = np.sign(rng.standard_normal((1536, v)))
    memory.store(keys, values)
    recalled = memory.recall(keys)
    own = np.sum(recalled * values, axis=1)
    rivals = recalled @ np.sign(rng.standard_normal((v, classes - 1)))
    law = laws.hebbian_law(1536 / memory.rank).crowded(laws.crowding(d, 3))
    wrong = np.mean(rivals.max(axis=1) >= own)
    assert wrong == pytest.approx(float(law.wrong_codeword(classes, v)), abs=0.012)
    assert wrong > 0.005


def small(**options) -> CapacityTable:
    return measure("ridge", **{"key_dim": 16, "value_dim": 3, "loads": [0.5, 1.5], "trials": 2, **options})


def test_the_same_seed_gives_the_same_table_in_any_number_of_processes() -> None:
    assert small(seed=5) == small(seed=5, processes=2)
    assert small(seed=5) != small(seed=6)


def test_tables_convert_without_loss() -> None:
    table = small() + small(kind="gaussian", whiten=False)
    records = table.to_records()
    assert records.measured.tolist() == [point.measured for point in table.points]
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [float(row["high"]) for row in rows] == [point.high for point in table.points]
    parsed = json.loads(table.to_json())
    assert [row["n_pairs"] for row in parsed] == records.n_pairs.tolist()
    assert parsed[-1]["predicted"] is None
    assert len(table) == len(rows) == 8


def test_a_stream_of_blocks_needs_no_table_of_all_pairs() -> None:
    calls: list[tuple[int, int]] = []
    table = measure(
        "hebbian",
        key_dim=16,
        value_dim=1,
        loads=[100],
        trials=2,
        queries=500,
        progress=lambda *done: calls.append(done),
    )
    assert table.points[0].n_pairs == 6400
    assert calls == [(1, 2), (2, 2)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.integers(10, 10**6))
def test_an_interval_holds_its_mean(errors: list[float], judged: int) -> None:
    for counts in (True, False):
        low, high = interval(errors, judged, counts=counts)
        assert 0 <= low <= np.mean(errors) + 1e-12
        assert high >= np.mean(errors) - 1e-12


def test_intervals_cover_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    bounds = [interval(rng.binomial(200, 0.03, 5) / 200, 1000, counts=True) for _ in range(400)]
    assert np.mean([low <= 0.03 <= high for low, high in bounds]) >= 0.98
    assert np.mean([high - low for low, high in bounds]) < 0.06


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loads": [0.0]}, "load is 0.0"),
        ({"query_cosines": [1.1]}, "query_cosine is 1.1"),
        ({"kind": "colour"}, "kind is 'colour'"),
        ({"trials": 1}, "trials is 1"),
        ({"queries": 0}, "queries is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"processes": 0}, "processes is 0"),
    ],
)
def test_measure_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


# ------------------------------------------------------------------------------------------------------ planning


@pytest.mark.parametrize(
    "wish",
    [
        {"pairs": 300, "query_cosine": 0.9},
        {"pairs": 250, "rule": "hebbian", "error": 0.02},
        {"pairs": 300, "rule": "delta", "query_cosine": 0.9, "error": 0.05},
        {"pairs": 400, "kind": "onehot", "query_cosine": 0.85, "rule": "rls", "error": 0.03},
        {"pairs": 400, "kind": "gaussian", "query_cosine": 0.9, "error": 0.5},
        {"memory_bytes": 3 * 10**6, "query_cosine": 0.9, "error": 0.03},
    ],
    ids=str,
)
def test_a_plan_does_what_it_says(wish: dict, tmp_path) -> None:
    answer = plan(96, 10, **wish)
    assert answer.predicted_error <= wish.get("error", 0.01)
    measured = measure(
        answer.rule,
        key_dim=96,
        value_dim=10,
        expansion=answer.expansion,
        loads=[answer.load],
        query_cosines=[answer.query_cosine],
        kind=answer.kind,
        trials=3,
    ).points[0]
    assert measured.n_pairs == answer.pairs
    assert measured.low <= answer.predicted_error * 1.05
    assert measured.high >= answer.predicted_error * 0.9
    memory = answer.build()
    rng = np.random.default_rng(0)
    memory.store(rng.standard_normal((answer.pairs, 96)), rng.standard_normal((answer.pairs, 10)))
    memory.save(tmp_path / "memory")
    assert os.path.getsize(tmp_path / "memory") == pytest.approx(answer.bytes_on_disk, abs=3000)
    assert answer.bytes_in_memory >= memory.nbytes
    assert answer.bytes_in_memory <= wish.get("memory_bytes", answer.bytes_in_memory)


def test_the_plan_is_the_smallest() -> None:
    answer = plan(96, 10, 300, query_cosine=0.9)
    kappa = [laws.feature_cosine(0.9, 96, k) for k in (answer.expansion - 1, answer.expansion)]
    ranks = [96 + k * 128 for k in (answer.expansion - 1, answer.expansion)]
    errors = [
        float(
            laws.ridge_law(300 / rank, laws.best_penalty(300 / rank, k), k)
            .crowded(laws.crowding(96, (rank - 96) // 128))
            .sign_error
        )
        for k, rank in zip(kappa, ranks, strict=True)
    ]
    assert errors[0] > 0.01 >= errors[1]


def test_what_cannot_be_planned_says_what_would() -> None:
    with pytest.raises(ValueError, match=r"possible are up to (\d+) pairs, or key_dim=") as refusal:
        plan(64, 4, 10_000, error=1e-3, query_cosine=0.9)
    possible = int(str(refusal.value).split("up to ")[2].split()[0])
    assert plan(64, 4, possible, error=1e-3, query_cosine=0.9).pairs == possible
    with pytest.raises(ValueError, match="memory_bytes is 100; expected at least"):
        plan(64, 4, memory_bytes=100)
    with pytest.raises(ValueError, match=r"need \d+ bytes .* fit into the budget"):
        plan(64, 4, 300, memory_bytes=10**5)
    with pytest.raises(ValueError, match="neither pairs nor memory_bytes"):
        plan(64, 4)
    with pytest.raises(ValueError, match="expected one whose error has a law"):
        plan(64, 4, 10, rule=Hebbian(decay=0.9))


# ------------------------------------------------------------------------------------- penalties and diagnosis


def filled(rule, n: int = 200, **options) -> AssociativeMemory:
    rng = np.random.default_rng(3)
    memory = AssociativeMemory(48, 3, expansion=2, rule=rule, **options)
    keys = 5 * rng.standard_normal((n, 48))
    memory.store(keys, keys[:, :3] + rng.standard_normal((n, 3)))
    return memory


def test_query_cosine_is_the_penalty_of_the_law_at_every_number_of_pairs(tmp_path) -> None:
    kappa = float(laws.feature_cosine(0.8, 48, 2))
    for n in (50, 200):
        memory = filled(Ridge(query_cosine=0.8), n)
        keys = 5 * np.random.default_rng(3).standard_normal((n, 48))
        expected = n * (1 - kappa**2) / kappa**2 * np.mean(np.sum(keys**2, axis=1))
        assert memory.alpha == pytest.approx(expected, rel=0.02)
        same = filled(Ridge(alpha=memory.alpha), n)
        np.testing.assert_allclose(memory.weights, same.weights, rtol=1e-9, atol=1e-12)
    memory.save(tmp_path / "memory")
    assert AssociativeMemory.load(tmp_path / "memory").alpha == memory.alpha
    assert memory.merge(memory).alpha == pytest.approx(2 * memory.alpha)


@pytest.mark.parametrize("n", [200, 600])
def test_gcv_chooses_the_penalty_of_least_score(n: int) -> None:
    memory = filled(Ridge(alpha="gcv"), n)
    rng = np.random.default_rng(3)
    keys = 5 * rng.standard_normal((n, 48))
    values = keys[:, :3] + rng.standard_normal((n, 3))
    features = memory.features.fold(keys)

    def score(alpha: float) -> float:
        hat = features @ np.linalg.solve(features.T @ features + alpha * np.eye(memory.rank), features.T)
        return float(np.sum((values - hat @ values) ** 2) / n / (1 - np.trace(hat) / n) ** 2)

    assert memory.alpha is not None
    best = score(memory.alpha)
    assert all(best <= score(memory.alpha * factor) * (1 + 1e-9) for factor in (0.1, 0.5, 0.9, 1.1, 2, 10))


def test_gcv_without_pairs_and_with_fewer_than_features() -> None:
    assert filled(Ridge(alpha="gcv"), 0).alpha is None
    memory = filled(Ridge(alpha="gcv"), 60)  # a score that falls towards no penalty at all
    assert memory.alpha is not None
    assert 0 < memory.alpha < 1e-6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Ridge(alpha="cv"), "alpha is 'cv'"),
        (lambda: Ridge(query_cosine=0.0), "query_cosine is 0.0"),
        (lambda: Ridge(alpha=1.0, query_cosine=0.9), "are both given"),
        (lambda: filled(Ridge(query_cosine=0.9), whiten=False), "not whitened"),
    ],
)
def test_penalties_that_cannot_be_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "rule", [Hebbian(), "delta", "ridge", Ridge(query_cosine=0.9), RecursiveLeastSquares(alpha=1.0)]
)
def test_diagnosis_follows_the_laws(rule) -> None:
    full, fresh = filled(rule, 400).diagnose(), filled(rule, 5).diagnose()
    assert "past capacity" in full.warning
    assert full.pairs_left == 0
    assert fresh.warning == ""
    assert fresh.pairs_left is not None
    assert fresh.pairs_left > 0
    assert fresh.noisy_error < full.noisy_error < 0.5
    there, beyond = filled(rule, 5 + fresh.pairs_left).diagnose(), filled(rule, 15 + fresh.pairs_left).diagnose()
    assert there.noisy_error <= 0.052
    assert beyond.noisy_error > 0.05


def test_diagnosis_of_conditioning_and_of_rules_without_a_law() -> None:
    memory = filled(Ridge(alpha=1000.0), 400)
    spectrum = np.linalg.eigvalsh(_gram(memory)) + 1000.0
    assert memory.diagnose().condition == pytest.approx(spectrum[-1] / spectrum[0])
    forgetful = filled(Hebbian(decay=0.9)).diagnose()
    assert np.isnan(forgetful.noisy_error)
    assert forgetful.pairs_left is None
    assert filled("ridge", 0).diagnose().warning == ""


def _gram(memory: AssociativeMemory) -> np.ndarray:
    features = memory.features.fold(5 * np.random.default_rng(3).standard_normal((400, 48)))
    return features.T @ features
