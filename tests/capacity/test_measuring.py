"""Measurement, planning and diagnosis: the laws against simulation, and the tables they come in."""

from __future__ import annotations

import csv
import json
import os
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import assocmem
from assocmem import AssociativeMemory, CReLUFeatures, DeltaRule, Hebbian, RecursiveLeastSquares, Ridge, laws
from assocmem.capacity import CapacityTable, interval, measure, noisy_keys, plan, predicted_error
from assocmem.capacity.measuring import label_of, one_blas_thread
from assocmem.capacity.tables import predicted_curves
from assocmem.laws.prediction import pairs_within
from tests.rules.outside_rule import DiagonalRidge


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
def test_feature_correlation_and_feature_cosine_are_those_of_the_features(key_dim: int, expansion: int) -> None:
    rng = np.random.default_rng(0)
    features = CReLUFeatures(key_dim, expansion)
    keys = rng.standard_normal((16000, key_dim))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    one, two = np.split(features.fold(keys), 2)
    # Independent halves: their covariances have independent noise, so the product of the two is unbiased.
    found = np.vdot(one.T @ one / len(one), two.T @ two / len(two)) / features.rank
    assert found == pytest.approx(laws.feature_correlation(key_dim, expansion), abs=0.025)
    queries = noisy_keys(keys[:2000], 0.8, rng)
    cosines = np.sum(features.fold(queries) * one[:2000], axis=1) / np.sum(one[:2000] ** 2, axis=1)
    assert cosines.mean() == pytest.approx(float(laws.feature_cosine(0.8, key_dim, expansion)), abs=0.01)


def small(**options) -> CapacityTable:
    return measure("ridge", **{"key_dim": 16, "value_dim": 3, "loads": [0.5, 1.5], "trials": 2, **options})


def test_the_same_seed_gives_the_same_table_in_any_number_of_processes() -> None:
    assert small(seed=5) == small(seed=5, processes=2)
    assert small(seed=5) != small(seed=6)


def test_tables_are_saved_without_loss(tmp_path) -> None:
    table = small() + small(kind="gaussian", whiten=False)
    table.save(tmp_path / "table.csv")
    table.save(tmp_path / "table.json")
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["high"]) for row in rows] == [point.high for point in table.points]
    parsed = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert [row["n_pairs"] for row in parsed] == [point.n_pairs for point in table.points]
    assert parsed[-1]["predicted"] is None
    assert len(table) == len(rows) == 8
    with pytest.raises(ValueError, match=r"must end in \.csv or \.json"):
        table.save(tmp_path / "table.xlsx")


def test_a_row_says_how_to_measure_it_again() -> None:
    table = small(seed=7, expansion=np.int64(2))
    for point in table.points:
        assert (point.key_dim, point.expansion, point.rank, point.value_dim, point.seed) == (16, 2, 48, 3, 7)
    again = measure(
        point.rule,
        key_dim=point.key_dim,
        value_dim=point.value_dim,
        expansion=point.expansion,
        loads=[0.5, 1.5],
        kind=point.kind,
        trials=point.trials,
        queries=point.queries,
        whiten=point.whiten,
        dtype=point.dtype,
        seed=point.seed,
    )
    assert again == table
    assert {point.version for point in table.points} == {assocmem.__version__}


def test_a_curve_passes_through_the_predictions_of_the_table() -> None:
    rules = {"ridge": Ridge(), "hebbian": Hebbian()}
    table = small(loads=[1.5, 0.5]) + measure("hebbian", key_dim=16, value_dim=3, loads=[0.5, 1.5], trials=2)
    curves = predicted_curves(table, rules)
    for point in table.points:
        found = [
            other.predicted
            for other in curves.points
            if (other.rule, other.query_cosine, other.load) == (point.rule, point.query_cosine, point.load)
        ]
        assert found == [point.predicted]
    assert all(point.trials == 0 and np.isnan(point.measured) for point in curves.points)
    assert np.isnan([point.predicted for point in predicted_curves(small(whiten=False), rules).points]).all()


@dataclass(frozen=True)
class Unregistered(DiagonalRidge):
    name = "unregistered"


@dataclass(frozen=True)
class Namesake(DiagonalRidge):
    name = "ridge"


def test_a_rule_is_measured_before_it_is_registered() -> None:
    options = {"key_dim": 16, "value_dim": 3, "loads": [0.5], "query_cosines": [1.0], "trials": 2}
    (point,), (known,) = measure(Unregistered(), **options).points, measure(DiagonalRidge(), **options).points
    assert (point.rule, known.rule) == ("unregistered", "diagonal")
    assert point.measured == known.measured
    assert label_of(Unregistered(alpha=2.0)) == "Unregistered(alpha=2.0)"
    assert label_of(Namesake()) == "Namesake(alpha=1.0)"
    assert label_of(Ridge()) == "ridge"


def test_blas_has_one_thread_where_it_can_be_told(monkeypatch) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]

    before = threads()
    with one_blas_thread():
        assert set(threads()) == {1}
    assert threads() == before
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with one_blas_thread():
        assert threads() == before


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
        ({"loads": [0.0]}, "load must be .* got 0.0"),
        ({"query_cosines": [1.1]}, "query_cosine must be .* got 1.1"),
        ({"kind": "colour"}, "kind must be .* got 'colour'"),
        ({"trials": 1}, "trials must be .* got 1"),
        ({"queries": 0}, "queries must be .* got 0"),
        ({"seed": -1}, "seed must be .* got -1"),
        ({"processes": 0}, "processes must be .* got 0"),
    ],
)
def test_measure_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


# ---------------------------------------------------------------------------------------------------- prediction

SIZES = {"key_dim": 128, "expansion": 3, "value_dim": 8}  # rank 512


def test_an_error_that_peaks_at_load_1_bounds_the_pairs_before_the_peak() -> None:
    def predicted(pairs: int) -> float:
        return predicted_error(Ridge(), pairs / 512, 0.9, "sign", **SIZES)

    assert predicted(440) < 0.3 < predicted(460)
    assert predicted(1216) < 0.3  # beyond the peak, where a search by doubling ended
    assert pairs_within(0.3, predicted, start=384, rank=512) == 445


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([Hebbian(), DeltaRule(), DeltaRule(rate=0.3), Ridge(), Ridge()]),
    st.sampled_from([0.0, 1e-6, 1e-4, 1e-2, 0.1, 1.0]),
    st.sampled_from([1.0, 0.999, 0.9, 0.7]),
    st.floats(0.001, 0.5),
    st.sampled_from([1, 300, 2000]),
)
def test_all_numbers_of_pairs_up_to_the_largest_are_within_the_error(rule, penalty, cosine, error, start) -> None:
    def predicted(pairs: int) -> float:
        return predicted_error(rule, pairs / 512, cosine, "sign", penalty=penalty, **SIZES)

    largest = pairs_within(error, predicted, start, rank=512, most=5000)
    assert start - 1 <= largest <= 5000
    assert all(predicted(pairs) <= error for pairs in range(start, largest + 1, 7))
    assert largest == 5000 or not predicted(largest + 1) <= error


@pytest.mark.parametrize(("error", "largest"), [(0.4, 9), (0.5, 99), (1.0, 5000), (np.nan, 9)])
def test_ends_of_the_search(error: float, largest: int) -> None:
    assert pairs_within(error, lambda pairs: 0.5 if pairs < 100 else 0.9, start=10, rank=64, most=5000) == largest


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
            .scaled(laws.feature_correlation(96, (rank - 96) // 128))
            .sign_error
        )
        for k, rank in zip(kappa, ranks, strict=True)
    ]
    assert errors[0] > 0.01 >= errors[1]


def test_what_cannot_be_planned_says_what_would() -> None:
    with pytest.raises(
        ValueError, match=r"no memory satisfies this.*Possible are up to (\d+) pairs, or key_dim="
    ) as refusal:
        plan(64, 4, 10_000, error=1e-3, query_cosine=0.9)
    possible = int(str(refusal.value).split("Possible are up to ")[1].split()[0])
    assert plan(64, 4, possible, error=1e-3, query_cosine=0.9).pairs == possible
    with pytest.raises(ValueError, match=r"memory_bytes must be at least .* got 100"):
        plan(64, 4, memory_bytes=100)
    with pytest.raises(ValueError, match=r"need \d+ bytes .* fit into the budget"):
        plan(64, 4, 300, memory_bytes=10**5)
    with pytest.raises(ValueError, match="neither pairs nor memory_bytes"):
        plan(64, 4)
    with pytest.raises(ValueError, match="no law is known for the error"):
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
        (lambda: Ridge(alpha="cv"), "alpha must be .* got 'cv'"),
        (lambda: Ridge(query_cosine=0.0), "query_cosine must be .* got 0.0"),
        (lambda: Ridge(alpha=1.0, query_cosine=0.9), "both set the penalty"),
        (lambda: filled(Ridge(query_cosine=0.9), whiten=False), "needs whitened features"),
    ],
)
def test_penalties_that_cannot_be_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "rule", [Hebbian(), "delta", "ridge", Ridge(query_cosine=0.9), RecursiveLeastSquares(alpha=1.0)]
)
def test_diagnosis_of_random_keys_follows_the_laws(rule) -> None:
    def diagnosed(n: int):
        rng = np.random.default_rng(3)
        memory = AssociativeMemory(48, 16, expansion=2, rule=rule)
        memory.store(5 * rng.standard_normal((n, 48)), np.sign(rng.standard_normal((n, 16))))
        return memory.diagnose()

    full, fresh = diagnosed(400), diagnosed(5)
    assert "past capacity" in full.warning or "least-squares fit" in full.warning
    assert full.pairs_left == 0
    assert fresh.warning == ""
    assert fresh.pairs_left is not None
    assert fresh.pairs_left > 0
    assert fresh.noisy_error < full.noisy_error < 0.5
    there, beyond = diagnosed(5 + fresh.pairs_left), diagnosed(15 + fresh.pairs_left)
    assert there.noisy_error <= 0.065
    assert beyond.noisy_error > 0.05


def test_pairs_left_end_before_the_peak_at_capacity() -> None:
    rng = np.random.default_rng(0)
    memory = AssociativeMemory(128, 8, expansion=3)
    memory.store(rng.standard_normal((384, 128)), np.sign(rng.standard_normal((384, 8))))
    left = memory.diagnose(query_cosine=0.9, error=0.3).pairs_left
    assert left == pytest.approx(61, abs=3)  # 0.292 at 440 pairs, 0.324 at 460


def test_diagnosis_of_conditioning_and_of_rules_without_a_law() -> None:
    memory = filled(Ridge(alpha=1000.0), 400)
    exact = np.linalg.cond(_gram(memory) + 1000.0 * np.eye(memory.rank), 1)
    assert exact / 3 < memory.diagnose().condition < 1.01 * exact  # an estimate from below, in the 1-norm
    forgetful = filled(Hebbian(decay=0.9)).diagnose()
    assert np.isnan(forgetful.noisy_error)
    assert forgetful.pairs_left is None
    assert filled("ridge", 0).diagnose().warning == ""


def _gram(memory: AssociativeMemory) -> np.ndarray:
    features = memory.features.fold(5 * np.random.default_rng(3).standard_normal((400, 48)))
    return features.T @ features
