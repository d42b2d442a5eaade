"""Slow, obvious oracles: literal features, plain loops, normal equations. Nothing here imports the package."""

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


def fading_ridge(features, values, alpha, decay):
    """Normal equations in which pair i of N weighs decay^(N-1-i), and the penalty stays."""
    weight = decay ** np.arange(len(features) - 1, -1, -1.0)[:, None]
    gram = features.T @ (weight * features) + alpha * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ (weight * values))


def effective_number(n, factor):
    """(sum of weights)^2 / sum of squared weights, for weights factor^age."""
    weights = [factor**age for age in range(n)]
    return sum(weights) ** 2 / sum(w * w for w in weights)


def fading_gcv(features, values, alpha, decay):
    """Score of a penalty: weighted residual sum of squares over (1 - df/n)^2, n the effective number of pairs."""
    weight = decay ** np.arange(len(features) - 1, -1, -1.0)[:, None]
    weights = fading_ridge(features, values, alpha, decay)
    rss = (weight * (values - features @ weights) ** 2).sum()
    gram = features.T @ (weight * features)
    freedom = np.trace(np.linalg.solve(gram + alpha * np.eye(len(gram)), gram))
    return rss / (1 - freedom / effective_number(len(features), decay)) ** 2


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
