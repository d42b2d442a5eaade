"""Slow, obvious oracles: literal features, plain loops, normal equations. Nothing here imports the package."""

import math
from fractions import Fraction

import mpmath
import numpy as np
from scipy.linalg import hadamard
from scipy.special import erfc


def projection_matrix(signs, key_dim):
    """Stack the explicit products (H S3)(H S2)(H S1), columns cut to the key."""
    blocks = []
    for block_signs in signs:
        p = block_signs.shape[1]
        h = hadamard(p) / np.sqrt(p)
        block = np.eye(p)
        for s in block_signs:
            block = h @ np.diag(s.astype(float)) @ block
        blocks.append(block[:, :key_dim])
    return np.vstack(blocks)


def relu(x):
    return np.where(x > 0, x, 0.0)


def literal_features(projection, keys):
    """phi(x) = [relu(Px), relu(-Px)], one key after the other."""
    return np.array([np.concatenate([relu(projection @ key), relu(-(projection @ key))]) for key in keys])


def whitened_features(projection, keys, p):
    """Psi(x) = [sqrt(d) x, (|Px| - sqrt(2/pi) |x| / sqrt(p)) sqrt(p / (1 - 2/pi))], one key after the other."""
    rows = []
    for key in keys:
        mean = np.sqrt(2 / np.pi) * np.linalg.norm(key) / np.sqrt(p)
        rows.append(
            np.concatenate([np.sqrt(len(key)) * key, (abs(projection @ key) - mean) * np.sqrt(p / (1 - 2 / np.pi))])
        )
    return np.array(rows)


def hebbian(features, values, decay=1.0):
    weights = np.zeros((features.shape[1], values.shape[1]))
    for f, v in zip(features, values, strict=True):
        weights = decay * weights + np.outer(f, v) / (f @ f)
    return weights


def delta(features, values, rate=1.0):
    weights = np.zeros((features.shape[1], values.shape[1]))
    for f, v in zip(features, values, strict=True):
        weights = weights + rate * np.outer(f, v - weights.T @ f) / (f @ f)
    return weights


def ridge(features, values, alpha):
    """Normal equations of the rows, or for alpha = 0 the minimum-norm least-squares solution."""
    if alpha == 0:
        return np.linalg.pinv(features, rcond=1e-12) @ values
    n = features.shape[0]
    return features.T @ np.linalg.solve(features @ features.T + alpha * np.eye(n), values)


def recursive_least_squares(features, values, alpha, decay=1.0):
    """Weighted normal equations: pair i of N weighs decay^(N-1-i), the penalty decay^N."""
    n = len(features)
    weight = decay ** np.arange(n - 1, -1, -1.0)
    gram = features.T @ (weight[:, None] * features) + alpha * decay**n * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ (weight[:, None] * values))


def leverages(features, queries, alpha):
    """One quadratic form after the other."""
    inverse = np.linalg.inv(features.T @ features + alpha * np.eye(features.shape[1]))
    return np.array([query @ inverse @ query for query in queries])


def deviations(features, values, queries, alpha):
    """sqrt(RSS / (N - df) (1 + h)) for every query and output, from the fitted values themselves."""
    n, rank = features.shape
    hat = features @ np.linalg.inv(features.T @ features + alpha * np.eye(rank)) @ features.T
    residuals = values - hat @ values
    variance = (residuals**2).sum(axis=0) / (n - np.trace(hat))
    return np.sqrt(np.outer(1 + leverages(features, queries, alpha), variance))


def interpolating_deviations(features, values, queries):
    """Their limit as alpha -> 0 with fewer pairs than dimensions: what of a query is outside the span of the keys."""
    kernel = np.linalg.inv(features @ features.T)
    variance = ((kernel @ values) ** 2).sum(axis=0) / np.trace(kernel)
    outside = queries - queries @ features.T @ kernel @ features
    return np.sqrt(np.outer((outside**2).sum(axis=1), variance))


def constrained_ridge(features, values, alpha, fixed, targets):
    """Ridge under fixed @ U = targets: the normal equations with Lagrange multipliers, one dense system."""
    rank, r = features.shape[1], len(fixed)
    system = np.zeros((rank + r, rank + r))
    system[:rank, :rank] = features.T @ features + alpha * np.eye(rank)
    system[:rank, rank:] = fixed.T
    system[rank:, :rank] = fixed
    return np.linalg.solve(system, np.vstack([features.T @ values, targets]))[:rank]


def smallest_change(metric, fixed, errors):
    """The X of least tr X' M X with fixed @ X = errors, by Lagrange multipliers."""
    rank, r = len(metric), len(fixed)
    system = np.zeros((rank + r, rank + r))
    system[:rank, :rank] = metric
    system[:rank, rank:] = fixed.T
    system[rank:, :rank] = fixed
    right = np.vstack([np.zeros((rank, errors.shape[1])), errors])
    return np.linalg.solve(system, right)[:rank]


def edited_ridge(features, values, alpha, rows):
    """Weights under edits, rows of (features, value, penalty, metric or None), by dense systems one after the other.

    Exact rows without a metric are constraints, soft ones pairs of weight 1 / penalty. Rows with a metric move the
    weights along the inverse of the metric times their features, all at once; what this does to other exact rows is
    mended by the smallest change in the metric of what is stored.
    """
    rank = features.shape[1]
    soft = [(f / np.sqrt(p), v / np.sqrt(p)) for f, v, p, m in rows if m is None and p > 0]
    exact = [(f, v) for f, v, p, m in rows if m is None and p == 0]
    features = np.vstack([features, *(f for f, _ in soft)])
    values = np.vstack([values, *(v for _, v in soft)])
    fixed, targets = np.array([f for f, _ in exact]).reshape(-1, rank), [v for _, v in exact]
    targets = np.array(targets).reshape(-1, values.shape[1])
    weights = constrained_ridge(features, values, alpha, fixed, targets)
    moving = [row for row in rows if row[3] is not None]
    if not moving:
        return weights
    table = np.array([f for f, _, _, _ in moving])
    directions = np.array([np.linalg.solve(m, f) for f, _, _, m in moving])
    system = table @ directions.T + np.diag([p for _, _, p, _ in moving])
    weights = weights + directions.T @ np.linalg.solve(system, np.array([v for _, v, _, _ in moving]) - table @ weights)
    exact += [(f, v) for f, v, p, m in moving if p == 0]
    if not exact:
        return weights
    fixed, targets = np.array([f for f, _ in exact]), np.array([v for _, v in exact])
    metric = features.T @ features + alpha * np.eye(rank)
    return weights + smallest_change(metric, fixed, targets - fixed @ weights)


def least_cost(metric, fixed, errors, digits=100):
    """Least tr X' M X with fixed @ X = errors, tr E'(F M^-1 F')^-1 E, with a hundred digits."""
    with mpmath.workdps(digits):
        m, f, e = (mpmath.matrix(table.tolist()) for table in (metric, fixed, errors))
        product = e.T * mpmath.inverse(f * mpmath.inverse(m) * f.T) * e
        return float(sum(product[i, i] for i in range(e.cols)))


def cost(metric, change, digits=100):
    """tr X' M X, with a hundred digits."""
    with mpmath.workdps(digits):
        m, x = (mpmath.matrix(table.tolist()) for table in (metric, change))
        product = x.T * m * x
        return float(sum(product[i, i] for i in range(x.cols)))


def fading_ridge(features, values, alpha, decay):
    """Normal equations in which pair i of N weighs decay^(N-1-i), and the penalty stays."""
    weight = decay ** np.arange(len(features) - 1, -1, -1.0)[:, None]
    gram = features.T @ (weight * features) + alpha * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ (weight * values))


def effective_number(n, factor):
    """(sum of weights)^2 / sum of squared weights, for weights factor^age."""
    weights = [factor**age for age in range(n)]
    return sum(weights) ** 2 / sum(w * w for w in weights)


def left_out_score(features, values, alpha, decay=1.0):
    """Sum of w times the squared error of each pair, predicted by a fit to the others, over the sum of w."""
    weight = decay ** np.arange(len(features) - 1, -1, -1.0)
    total = 0.0
    for i in range(len(features)):
        rest = np.arange(len(features)) != i
        gram = features[rest].T @ (weight[rest, None] * features[rest]) + alpha * np.eye(features.shape[1])
        weights = np.linalg.solve(gram, features[rest].T @ (weight[rest, None] * values[rest]))
        total += weight[i] * ((values[i] - features[i] @ weights) ** 2).sum()
    return total / weight.sum()


def gcv_score(features, values, alpha, decay=1.0):
    """The same with w l / (1 + w l) for every leverage, where the l of all pairs alike gives their sum."""
    weight = decay ** np.arange(len(features) - 1, -1, -1.0)
    errors = values - features @ fading_ridge(features, values, alpha, decay)
    gram = features.T @ (weight[:, None] * features)
    freedom = np.trace(np.linalg.solve(gram + alpha * np.eye(len(gram)), gram))
    low, high = -50.0, 50.0  # of log l
    for _ in range(100):
        middle = (low + high) / 2
        likes = weight * np.exp(middle)
        low, high = (middle, high) if (likes / (1 + likes)).sum() < freedom else (low, middle)
    return (weight @ (errors**2).sum(axis=1)) / (weight / (1 + weight * np.exp(low)) ** 2).sum()


def left_out_leverages(features, penalty):
    """Leverage of every row under a fit to the others."""
    found = []
    for i in range(len(features)):
        others = np.delete(features, i, axis=0)
        found.append(
            features[i] @ np.linalg.solve(others.T @ others + penalty * np.eye(features.shape[1]), features[i])
        )
    return np.array(found)


def equivalent_penalty(features, pairs, alpha):
    """The penalty p of the sample for which alpha R is the same: N times the mean of l/(1 + l), l = p/alpha times the
    left-out leverages, is tr(G R) of the sample.
    """
    low, high = np.log(1e-6), np.log(1e9)
    for _ in range(60):
        p = np.exp((low + high) / 2)
        beside = p / alpha * left_out_leverages(features, p)
        gram = features.T @ features
        freedom = np.trace(gram @ np.linalg.inv(gram + p * np.eye(len(gram))))
        is_low = pairs * (beside / (1 + beside)).mean() < freedom
        low, high = ((low + high) / 2, high) if is_low else (low, (low + high) / 2)
    return p


def recalls_from_sample(features, queries, pairs, alpha):
    """Shares and crosstalk variances of N pairs under alpha, from a sample: an inverse for every key left out."""
    p, rank = equivalent_penalty(features, pairs, alpha), features.shape[1]
    growth = (
        equivalent_penalty(features, pairs, 1.001 * alpha) - equivalent_penalty(features, pairs, 0.999 * alpha)
    ) / (0.002 * alpha)
    shares, variances = [], []
    for i in range(len(features)):
        others = np.delete(features, i, axis=0)
        inverse = np.linalg.inv(others.T @ others + p * np.eye(rank))
        leverage = p / alpha * features[i] @ inverse @ features[i]
        share = p / alpha * queries[i] @ inverse @ features[i] / (1 + leverage)
        crosstalk = others @ inverse @ (queries[i] - share * features[i])
        shares.append(share)
        variances.append(growth * crosstalk @ crosstalk)
    return np.array(shares), np.array(variances)


def tail(x):
    """P(standard normal > x)."""
    return 0.5 * erfc(x / np.sqrt(2))


def hebbian_sign_error(load):
    """At query cosine 1."""
    return tail(1 / np.sqrt(load))


def ridge_sign_error(load, penalty):
    """At query cosine 1; penalty = alpha / D for unit-norm keys (Marchenko-Pastur)."""
    a, b = load * penalty, penalty + 1 - load
    mu = (-b + np.sqrt(b * b + 4 * a)) / (2 * a)
    slope = (load * mu**2 + mu) / (2 * a * mu + b)
    h = 1 - penalty * mu
    s = 1 - 2 * penalty * mu + penalty**2 * slope
    return tail(h / np.sqrt(s - h * h))


def next_state(recalled, state, length, activation):
    """One step of an auto-associative memory, or None where nothing usable was recalled."""
    if not np.isfinite(recalled).all() or not recalled.any():
        return None
    if activation == "sign":
        return np.array([-1.0 if r < 0 or (r == 0 and s < 0) else 1.0 for r, s in zip(recalled, state, strict=True)])
    if activation == "normalize":
        return recalled * (length / np.linalg.norm(recalled))
    return np.clip(recalled, -1.0, 1.0)


def settle(recall, key, activation, max_steps, tol):
    """Keep every state that was seen; returns the last state, the steps to it, and why it is the last."""
    near = 0.0 if activation == "sign" else tol
    seen = [key]
    for _ in range(max_steps):
        state = next_state(recall(seen[-1]), seen[-1], np.linalg.norm(key), activation)
        if state is None:
            return seen[-1], len(seen) - 1, "undefined"
        if np.linalg.norm(state - seen[-1]) <= near * np.linalg.norm(state):
            return seen[-1], len(seen) - 1, "fixed point"
        if any(np.linalg.norm(state - earlier) <= near * np.linalg.norm(state) for earlier in seen):
            return state, len(seen), "cycle"
        seen.append(state)
    return seen[-1], len(seen) - 1, "limit"


def gaussian_mean(function, center, deviation):
    """Mean of function(z) for z ~ N(center, deviation^2), by adding up 50 001 points."""
    z = np.linspace(-10, 10, 50_001)
    density = np.exp(-(z**2) / 2)
    return float((function(center + deviation * z) * density).sum() / density.sum())


def noisy_moments(projection, keys, p, bias, noise):
    """Means (N, D) and variances (N, D) of the whitened features of keys at cosine 1 - 2 noise, length kept."""
    rho = 1 - 2 * noise
    means, variances = [], []
    for key in keys:
        spread = np.sqrt(1 - rho**2) * np.linalg.norm(key)
        extended = np.append(rho * key, [bias] if bias else [])
        d, length = len(extended), np.hypot(np.linalg.norm(key), bias)
        shift, scale = np.sqrt(2 / np.pi) * length / np.sqrt(p), np.sqrt(p / (1 - 2 / np.pi))
        centers = projection @ extended
        sizes = np.array([gaussian_mean(np.abs, z, spread / np.sqrt(p)) for z in centers])
        squares = np.array([gaussian_mean(np.square, z, spread / np.sqrt(p)) for z in centers])
        means.append(np.concatenate([np.sqrt(d) * extended, (sizes - shift) * scale]))
        on_key = [d * spread**2 / len(key)] * len(key) + [0.0] * bool(bias)
        variances.append(np.concatenate([on_key, (squares - sizes**2) * scale**2]))
    return np.array(means), np.array(variances)


# Numbers with 900 binary places, held in Python's integers: the condition numbers of the hard families reach 1e60 and
# more, which no floating point type of a machine can hold.
PLACES = 900
NO_PENALTY = 2.0**-360  # next to the largest square: the minimum-norm solution is the limit, and this is at the limit

_to_fixed = np.frompyfunc(lambda x: (Fraction(float(x)) * 2**PLACES).__floor__(), 1, 1)
_to_float = np.frompyfunc(lambda x: float(Fraction(x, 2**PLACES)), 1, 1)


def product_fixed(left, right):
    """Product of matrices with 900 binary places, of which those that are 0 everywhere are left out: it is faster."""
    zeros = [min((int(x & -x).bit_length() - 1 for x in table.flat if x), default=0) for table in (left, right)]
    product = (left >> zeros[0]).dot(right >> zeros[1])
    return (product << sum(zeros)) >> PLACES


def solve_fixed(matrix, right):
    """Gaussian elimination of a positive definite matrix (n, n) and right sides (n, v) with 900 binary places."""
    matrix, right = matrix.copy(), right.copy()
    n = len(matrix)
    for k in range(n):
        factors = (matrix[k + 1 :, k] << PLACES) // matrix[k, k]
        matrix[k + 1 :, k + 1 :] -= np.multiply.outer(factors, matrix[k, k + 1 :]) >> PLACES
        right[k + 1 :] -= np.multiply.outer(factors, right[k]) >> PLACES
    for k in reversed(range(n)):
        known = matrix[k, k + 1 :].dot(right[k + 1 :]) if k + 1 < n else 0
        right[k] = ((right[k] << PLACES) - known) // matrix[k, k]
    return right


def exact_ridge(features, values, alpha, decay=1.0):
    """Ridge weights of rows that are taken as exact numbers; for alpha = 0 the minimum-norm least-squares solution.

    Pair i of N weighs decay^(N-1-i). The smaller of the two systems is solved: of the products of features (D, D), or
    of rows (N, N). The unit of each side is a power of two, so that nothing is rounded when it is taken.
    """
    n, rank = features.shape
    if n == 0 or not values.any():
        return np.zeros((rank, values.shape[1]))
    unit, size = (2.0 ** np.ceil(np.log2(float(np.abs(table).max()))) for table in (features, values))
    rows, targets = _to_fixed(features.astype(float) / unit), _to_fixed(values.astype(float) / size)
    if decay != 1.0:
        # 200 places are enough for a weight, and keep the products short.
        weight = [math.isqrt((Fraction(decay) ** age * 2**400).__floor__()) for age in range(n - 1, -1, -1)]
        rows, targets = (np.array(weight, object)[:, None] * table >> 200 for table in (rows, targets))
    penalty = (Fraction(float(alpha)) / Fraction(float(unit)) ** 2 * 2**PLACES).__floor__()
    left = rows if n < rank else rows.T
    system = product_fixed(left, left.T)
    system[np.diag_indices(len(system))] += penalty or (Fraction(NO_PENALTY) * 2**PLACES).__floor__()
    if n < rank:
        weights = product_fixed(rows.T, solve_fixed(system, targets))
    else:
        weights = solve_fixed(system, product_fixed(left, targets))
    return _to_float(weights).astype(float) * (size / unit)


def exact_hebbian(features, values, decay=1.0):
    """The sum of outer products with 900 binary places; each row in units of its own size, since that cancels out."""
    size = float(np.abs(values).max(initial=0.0)) or 1.0
    weights = np.zeros((features.shape[1], values.shape[1]), object)
    for age, row, value in zip(range(len(features) - 1, -1, -1), features, values, strict=True):
        unit = 2.0 ** np.ceil(np.log2(float(np.abs(row).max())))
        f, v = _to_fixed(row.astype(float) / unit), _to_fixed(value.astype(float) / size)
        share = (Fraction(decay) ** age / Fraction(unit) * 2**PLACES).__floor__()
        weights += np.multiply.outer((f * share) // (f.dot(f) >> PLACES), v) >> PLACES
    return _to_float(weights).astype(float) * size


def least_squares_by_qr(features, values, alpha, digits=60):
    """Ridge weights by Householder QR of the rows below which √α I stands, in mpmath; for independent rows or columns.

    With alpha = 0 and fewer rows than columns the minimum-norm solution, by QR of the transpose.
    """
    with mpmath.workdps(digits):
        n, rank = features.shape
        rows, targets = mpmath.matrix(features.tolist()), mpmath.matrix(values.tolist())
        if alpha == 0 and n < rank:
            q, r = mpmath.qr(rows.T, mode="skinny")
            weights = q * (mpmath.inverse(r.T) * targets)
        else:
            stacked = mpmath.zeros(n + rank, rank)
            right = mpmath.zeros(n + rank, values.shape[1])
            stacked[:n, :], right[:n, :] = rows, targets
            stacked[n:, :] = mpmath.sqrt(mpmath.mpf(float(alpha))) * mpmath.eye(rank)
            q, r = mpmath.qr(stacked, mode="skinny")
            weights = mpmath.inverse(r) * (q.T * right)
        return np.array(weights.tolist(), float)


def relative_distance(got, exact):
    """‖got − exact‖ / ‖exact‖ in the Frobenius norm, whatever their size; infinite next to weights of 0."""
    size = np.abs(exact).max(initial=0.0)
    if not np.isfinite(got).all():
        return np.inf
    if size == 0.0:
        return np.inf if np.any(got) else 0.0
    return float(np.linalg.norm((got.astype(float) - exact) / size) / np.linalg.norm(exact / size))


def left_out(features, values, row, alpha):
    """Error with which a pair is recalled by the least-squares solution of the other rows: no sums, no hat matrix."""
    others = np.arange(len(features)) != row
    kept, targets = features[others], values[others]
    if alpha:
        kept = np.vstack([kept, np.sqrt(alpha) * np.eye(features.shape[1])])
        targets = np.vstack([targets, np.zeros((features.shape[1], values.shape[1]))])
    elif len(kept) <= kept.shape[1]:  # all are met: the lengths of rows do not matter, but cost digits
        lengths = np.linalg.norm(kept, axis=1)[:, None]
        kept, targets = kept / lengths, targets / lengths
    return values[row] - features[row] @ np.linalg.lstsq(kept, targets, rcond=1e-14)[0]


def pretended(weights_of, features, values, key, query):
    """Share and crosstalk of a query's recall had the key been stored too: store it with the values 0 and 1."""
    extended = np.vstack([features, key])
    none, one = (query @ weights_of(extended, np.vstack([values, np.full(values.shape[1], v)])) for v in (0.0, 1.0))
    return one - none, none


def error_of_recalls(kind, share, crosstalk, sizes):
    """Error of one key's recall share * v + crosstalk, over all values v: signs, or one of the outputs."""
    if kind == "sign":
        recalled = [(share * v * s + t, v) for t, s in zip(crosstalk, sizes, strict=True) for v in (-1, 1)]
        return np.mean([r * v < 0 for r, v in recalled])
    if kind == "gaussian":
        return np.mean([(1 - share) ** 2 + (t / s) ** 2 for t, s in zip(crosstalk, sizes, strict=True)])
    height = math.sqrt(sum(s * s for s in sizes))
    wrong = 0
    for c in range(len(sizes)):
        recalled = [t + share * height * (j == c) for j, t in enumerate(crosstalk)]
        wrong += recalled.index(max(recalled)) != c
    return wrong / len(sizes)


def left_out_variances(features, shrinkage, share, alpha):
    """|| (K - share) psi_i' R_-i Psi_-i' ||^2 of every row i, with R_-i of the others: variance of its crosstalk."""
    found = []
    for i, row in enumerate(features):
        others = np.delete(features, i, axis=0)
        inverse = np.linalg.inv(others.T @ others + alpha * np.eye(len(row)))
        found.append(float(np.sum(((shrinkage - share) * row @ inverse @ others.T) ** 2)))
    return np.array(found)
