"""The parameter trees that are timed, as lists of shapes."""

import itertools

Shapes = list[tuple[int, ...]]


def resnet50() -> Shapes:
    """Return kernels, and scale and bias of each normalization: 25.6 million in all."""
    shapes: Shapes = [(7, 7, 3, 64), (64,), (64,)]
    width = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner = 64 * 2**stage
        for block in range(blocks):
            kernels = [(1, 1, width, inner), (3, 3, inner, inner)]
            kernels.append((1, 1, inner, 4 * inner))
            if block == 0:
                kernels.append((1, 1, width, 4 * inner))
            for kernel in kernels:
                shapes += [kernel, kernel[-1:], kernel[-1:]]
            width = 4 * inner
    return [*shapes, (width, 1000), (1000,)]


def gpt2(layers: int = 12, width: int = 768, words: int = 50257) -> Shapes:
    """Return embeddings, attention, MLP and normalization: 124 million in all."""
    block: Shapes = [
        *[(width,)] * 2,
        (width, 3 * width),
        (3 * width,),
        (width, width),
        (width,),
        *[(width,)] * 2,
        (width, 4 * width),
        (4 * width,),
        (4 * width, width),
        (width,),
    ]
    return [(words, width), (1024, width), *block * layers, (width,), (width,)]


TREES: dict[str, Shapes] = {
    "32 x 1024^2": [(1024, 1024)] * 32,
    "1000 x 64^2": [(64, 64)] * 1000,
    "one leaf of 2^25": [(2**25,)],
    "one matrix of 4096 x 8192": [(4096, 8192)],
    "one leaf of 33554393": [(33554393,)],  # a prime
    "ResNet-50": resnet50(),
    "GPT-2 124M": gpt2(),
    "2000 x 64": [(64,)] * 2000,
}
QUICK = tuple(itertools.islice(TREES, 2))
