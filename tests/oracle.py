"""RMSProp in float64 NumPy, straight from the equations; imports nothing of ours.

Every average is taken over the whole history with its weights written out, so nothing
here is a recursion but momentum, and a variance is the mean squared distance from the
mean: no cancellation, and not the form that the library computes.
"""

import numpy as np


def rmsprop(
    params,
    gradients,
    learning_rate,
    decay=0.9,
    eps=1e-8,
    initial_scale=0.0,
    eps_in_sqrt=True,
    centered=False,
    momentum=None,
    nesterov=False,
    bias_correction=False,
    lr_in_momentum=True,
    weight_decay=None,
    decoupled_weight_decay=False,
):
    """Give the parameters after each step, for one array and a list of gradients.

    `learning_rate` is a number or a function of the step 0, 1, ...
    """
    p = np.asarray(params)
    p = p.astype(np.complex128 if np.iscomplexobj(p) else np.float64)
    buffer, history, path = np.zeros_like(p), [], []
    for k, g in enumerate(gradients):
        lr = float(learning_rate(k) if callable(learning_rate) else learning_rate)
        g = np.asarray(g).astype(p.dtype)
        if weight_decay is not None and not decoupled_weight_decay:
            g = g + weight_decay * p
        history.append(g)
        v = second_moment(history, decay, initial_scale, centered, bias_correction)
        root = np.sqrt(v + eps) if eps_in_sqrt else np.sqrt(v) + eps
        u = np.divide(g, root, out=np.zeros_like(g), where=root > 0)
        if lr_in_momentum:
            u = lr * u
        if momentum is not None:
            buffer = momentum * buffer + u
            u = u + momentum * buffer if nesterov else buffer
        if not lr_in_momentum:
            u = lr * u
        if weight_decay is not None and decoupled_weight_decay:
            u = u + lr * weight_decay * p
        p = p - u
        path.append(p)
    return path


def second_moment(history, decay, initial_scale, centered, bias_correction):
    """Average |g - center|**2 over the history.

    Without bias correction the weights do not add up to 1; the rest belongs to what
    was there before: a gradient of 0 and a second moment of `initial_scale`.
    """
    t = len(history)
    weights = (1 - decay) * decay ** np.arange(t - 1, -1, -1.0)
    before = decay**t
    if bias_correction:
        weights, before = weights / (1 - decay**t), 0.0
    mean = sum(w * g for w, g in zip(weights, history, strict=True))
    mean = mean if centered else 0.0
    v = before * (initial_scale + np.abs(mean) ** 2)
    return v + sum(
        w * np.abs(g - mean) ** 2 for w, g in zip(weights, history, strict=True)
    )
