"""The table of functions: each with params, data, and the forms of its factors."""

from typing import Any, NamedTuple

from tests.function.functions import (
    IDS,
    TOKENS,
    X,
    branches,
    class_token,
    convolution,
    dense,
    draw,
    elementwise,
    experts,
    heads,
    indexed,
    inner_step,
    laplacian,
    line,
    lookup,
    lora,
    low_rank,
    made,
    mapped,
    merged,
    merged_behind,
    nested,
    norms,
    positions,
    recurrent,
    remat,
    scaled_adapters,
    scanned,
    slices,
    stopped,
    tied,
    transposed,
    twice,
    weight_norm,
)


class Case(NamedTuple):
    f: Any  # f(params, *args) -> (n,)
    params: dict[str, Any]
    args: tuple[Any, ...]
    forms: dict[str, str]  # of each param, the type of its factor; that of a view's matrix behind a colon


W = {"w": draw(0, 5, 4), "b": draw(1, 4)}
SQUARE = {"w": draw(0, 5, 5), "b": draw(1, 5)}

CASES = {
    "dense": Case(dense, W, (X,), {"w": "Outer", "b": "Total"}),
    "as many examples as features": Case(dense, SQUARE, (X[:5],), {"w": "Outer", "b": "Total"}),
    "transposed": Case(
        transposed, {"w": draw(0, 4, 5), "b": draw(1, 4)}, (X,), {"w": "Viewed:Outer", "b": "Total"}
    ),
    "elementwise": Case(
        elementwise,
        {"s": draw(0, 5), "c": draw(1), "d": draw(2, 5), "e": draw(3), "m": draw(4, 5)},
        (X,),
        {"s": "Scaled", "c": "Viewed:Scaled", "d": "Total", "e": "Viewed:Total", "m": "Total"},
    ),
    "heads": Case(
        heads,
        {"w": draw(0, 5, 2, 3), "b": draw(1, 2, 3), "o": draw(2, 2, 3, 4)},
        (TOKENS,),
        {"w": "Viewed:Outer", "b": "Viewed:Total", "o": "Viewed:Outer"},
    ),
    "experts": Case(experts, {"w": draw(0, 3, 5, 2)}, (TOKENS,), {"w": "Outer"}),
    "lookup": Case(lookup, {"t": draw(0, 4, 5)}, (IDS,), {"t": "Rows"}),
    "tied": Case(tied, {"t": draw(0, 4, 5)}, (IDS,), {"t": "Mutual"}),
    "made": Case(made, {"w": draw(0, 5, 4), "m": draw(1, 5, 4)}, (X,), {"w": "Called", "m": "Called"}),
    "low rank": Case(
        low_rank,
        {"w": draw(0, 5, 4), "a": draw(1, 5, 2), "b": draw(2, 2, 4)},
        (X,),
        {"w": "Outer", "a": "Outer", "b": "Outer"},
    ),
    "scaled adapters": Case(
        scaled_adapters,
        {
            "w": draw(0, 5, 4),
            "a": draw(1, 2, 5),
            "b": draw(2, 2, 4),
            "s": draw(3, 4),
            "r": draw(4, 5),
            "c": draw(5),
        },
        (X,),
        {"w": "Outer", "a": "Viewed:Outer", "b": "Outer", "s": "Total", "r": "Called", "c": "Called"},
    ),
    "weight norm": Case(
        weight_norm,
        {"v": draw(0, 5, 4), "g": draw(1, 4), "d": draw(2, 4)},
        (TOKENS,),
        {"v": "Several", "g": "Total", "d": "Scaled"},
    ),
    "norms": Case(
        norms,
        {"s": draw(0, 5), "b": draw(1, 5), "t": draw(2, 4, 5)},
        (X,),
        {"s": "Scaled", "b": "Total", "t": "Rows"},
    ),
    "twice": Case(twice, SQUARE, (X,), {"w": "Outer", "b": "Scaled"}),
    "positions": Case(positions, {"e": draw(0, 7, 5)}, (TOKENS,), {"e": "Part"}),
    "class token": Case(
        class_token, {"c": draw(0, 5), "w": draw(1, 5, 2)}, (TOKENS,), {"c": "Total", "w": "Outer"}
    ),
    "merged": Case(merged, W, (TOKENS,), {"w": "Outer", "b": "Total"}),
    "merged behind": Case(merged_behind, W, (TOKENS,), {"w": "Outer", "b": "Total"}),
    "slices": Case(
        slices, {"w": draw(0, 3, 5, 5), "v": draw(1, 2, 2, 5)}, (X,), {"w": "Outer", "v": "Several"}
    ),
    "scanned": Case(scanned, {"w": draw(0, 3, 5, 5), "b": draw(1, 5)}, (X,), {"w": "Outer", "b": "Total"}),
    "nested": Case(
        nested, {"w": draw(0, 2, 3, 5, 5), "s": draw(1)}, (X,), {"w": "Outer", "s": "Viewed:Scaled"}
    ),
    "recurrent": Case(
        recurrent,
        {"w": draw(0, 5, 4), "u": draw(1, 4, 4), "b": draw(2, 4)},
        (TOKENS,),
        {"w": "Outer", "u": "Outer", "b": "Total"},
    ),
    "branches": Case(
        branches,
        {"w": draw(0, 5, 4), "b": draw(1, 5), "s": draw(2)},
        (X,),
        {"w": "Outer", "b": "Scaled", "s": "Viewed:Total"},
    ),
    "indexed": Case(indexed, {"w": draw(0, 3, 5, 5)}, (X,), {"w": "Called"}),
    "mapped": Case(mapped, {"w": draw(0, 5, 5), "b": draw(1, 5)}, (X,), {"w": "Several", "b": "Scaled"}),
    "remat": Case(remat, {"w": draw(0, 5, 4)}, (X,), {"w": "Outer"}),
    "laplacian": Case(
        laplacian,
        {"w": draw(0, 2, 5), "b": draw(1, 5), "v": draw(2, 5, 1)},
        (draw(3, 6, 2),),
        {"w": "Outer", "b": "Total", "v": "Outer"},
    ),
    "convolution": Case(
        convolution,
        {"k": draw(0, 3, 2, 2, 6), "b": draw(1, 6)},
        (draw(2, 3, 7, 8, 4),),
        {"k": "Viewed:Convolved", "b": "Total"},
    ),
    "line": Case(line, {"k": draw(0, 3, 2, 4)}, (draw(1, 3, 2, 9),), {"k": "Convolved"}),
    "inner step": Case(inner_step, {"w": draw(0, 5, 3)}, (X,), {"w": "Several"}),
    "stopped": Case(stopped, SQUARE, (X,), {"w": "Viewed:Outer", "b": "Scaled"}),
    "lora": Case(
        lora,
        {"w": draw(0, 5, 4), "a": draw(1, 5, 2), "b": draw(2, 2, 4)},
        (X,),
        {"w": "Viewed:Outer", "a": "Outer", "b": "Outer"},
    ),
}
