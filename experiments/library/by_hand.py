"""Backpropagation by hand, with NumPy: by loops, by matrices, by recursion."""

import numpy as np

Params = list[tuple[np.ndarray, np.ndarray]]  # for each layer the weight (k, j) and the bias (j,)
Grads = list[tuple[np.ndarray, np.ndarray]]


def loops(params: Params, x: np.ndarray, t: np.ndarray) -> Grads:
    """Give the gradients for one example (k,), neuron by neuron and weight by weight."""
    last = len(params) - 1
    values, sums = [x], []
    for i, (w, b) in enumerate(params):
        a, z, after = values[-1], np.empty(len(b)), np.empty(len(b))
        for j in range(len(b)):
            z[j] = b[j]
            for k in range(len(a)):
                z[j] += a[k] * w[k, j]
            after[j] = z[j] if i == last or z[j] > 0 else 0.0
        sums.append(z)
        values.append(after)
    da = np.empty(len(t))
    for j in range(len(t)):
        da[j] = values[-1][j] - t[j]
    grads: Grads = []
    for i in reversed(range(len(params))):
        (w, b), a, z = params[i], values[i], sums[i]
        dw, db, before = np.empty(w.shape), np.empty(len(b)), np.zeros(len(a))
        for j in range(len(b)):
            dz = da[j] if i == last or z[j] > 0 else 0.0
            db[j] = dz
            for k in range(len(a)):
                dw[k, j] = a[k] * dz
                before[k] += w[k, j] * dz
        grads.insert(0, (dw, db))
        da = before
    return grads


def matrices(params: Params, x: np.ndarray, t: np.ndarray) -> Grads:
    """Give the gradients for a batch (n, k), layer by layer, in a loop."""
    values = [x]
    for w, b in params[:-1]:
        values.append(np.maximum(values[-1] @ w + b, 0))
    w, b = params[-1]
    dz = values[-1] @ w + b - t
    grads = [(values[-1].T @ dz, dz.sum(0))]
    for i in reversed(range(len(params) - 1)):
        dz = (dz @ params[i + 1][0].T) * (values[i + 1] > 0)
        grads.insert(0, (values[i].T @ dz, dz.sum(0)))
    return grads


def recursion(params: Params, x: np.ndarray, t: np.ndarray) -> Grads:
    """Give the same gradients by a recursion: it holds on its stack what the loop keeps in a list."""
    grads: Grads = []

    def descend(i: int, a: np.ndarray) -> np.ndarray:
        if i == len(params):
            return a - t
        w, b = params[i]
        z = a @ w + b
        hidden = i < len(params) - 1
        dz = descend(i + 1, np.maximum(z, 0) if hidden else z) * (z > 0 if hidden else 1)
        grads.insert(0, (a.T @ dz, dz.sum(0)))
        return dz @ w.T

    descend(0, x)
    return grads
