"""The table of operators on symbolic values: torch's names and arguments, for every reader of programs.

TorchScript calls them so, torch modules through functions and methods of these names, and ONNX nodes are translated. In
arguments, `Value`s depend on the observation; arrays and numbers are constants. Pure movements are `value_movements`'.
"""

from collections.abc import Sequence
from typing import Any

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.affine_values import Value
from snn_policy.sources.refusals import refusal, rounding
from snn_policy.sources.value_arithmetic import ARITHMETIC
from snn_policy.sources.value_choices import branched
from snn_policy.sources.value_layers import CHOICES, LAYERS

ALIASES = {
    "iadd": "add", "isub": "sub", "subtract": "sub", "imul": "mul", "multiply": "mul", "truediv": "div",
    "itruediv": "div", "divide": "div", "true_divide": "div", "radd": "add", "rmul": "mul", "rtruediv": "rdiv",
    "clip": "clamp", "maximum": "clamp_min", "minimum": "clamp_max",
    "mm": "matmul", "bmm": "matmul", "rmatmul": "rmatmul", "negative": "neg", "concat": "cat", "concatenate": "cat",
    "swish": "silu", "absolute": "abs", "linalg_vector_norm": "norm", "linalg_norm": "norm", "vector_norm": "norm",
    "frobenius_norm": "norm", "square": "square", "special_expit": "sigmoid", "special_softmax": "softmax",
    "_convolution": "convolution", "norm_except_dim": "norm",
    "_threshold": "threshold", "__and__": "logical_and", "__or__": "logical_or",
    "and": "logical_and", "or": "logical_or", "invert": "logical_not", "bitwise_and": "logical_and",
    "bitwise_or": "logical_or", "bitwise_not": "logical_not",
}  # fmt: skip
UNCHANGED = ("float", "double", "to", "clone", "cpu", "type", "type_as", "half", "bfloat16", "_to_copy", "dropout",
              "dropout1d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout",
              "nan_to_num")  # fmt: skip
_NAMED = {"scaled_dot_product_attention": "attention", "multi_head_attention_forward": "attention",
          "_native_multi_head_attention": "attention", "topk": "mixture of experts",
          "one_hot": "mixture of experts", "sort": "sorting",
          "scatter": "scatter", "index_put": "scatter"}  # fmt: skip


_BRANCHES = ("eq", "ne", "equal", "not_equal", "any", "all", "nonzero", "count_nonzero", "isnan", "isinf", "isfinite")
_RULES = ARITHMETIC | CHOICES | LAYERS
READ = frozenset((*_RULES, *ALIASES, "batch_norm"))
"""Names that are read, for whoever may call no others."""


def applied(name: str, arguments: Sequence[Any], keywords: dict[str, Any], path: str) -> Any:
    """Return what an operator makes of its arguments, at least one of which is a `Value`.

    Raises:
        UnsupportedLayerError: no rule reads it.
        SourceError: its arguments do not fit it.
    """
    name = ALIASES.get(name, name)
    if name in UNCHANGED:
        return _unchanged(name, arguments, keywords, path)
    rule = _RULES.get(name)
    if name in _BRANCHES:
        raise branched(path, name)
    if rule is None:
        raise refusal(path, _NAMED.get(name, name))
    given = {key: value for key, value in keywords.items() if key not in ("out", "inplace", "dtype")}
    try:
        return rule(path, *arguments, **given)
    except (TypeError, IndexError, AttributeError) as problem:
        raise UnsupportedLayerError(path, name, f"its arguments are not read ({problem})", "Write it plainly") from None


def _unchanged(name: str, arguments: Sequence[Any], keywords: dict[str, Any], path: str) -> Value:
    if "dropout" in name and bool(arguments[2] if len(arguments) > 2 else keywords.get("train", False)):
        raise refusal(path, name)
    kinds = [str(given) for given in (*arguments[1:], *keywords.values())]
    if any("int" in kind or kind.endswith(("bool", "long")) for kind in kinds):
        raise rounding(path, name)
    return arguments[0]
