"""Kinds of policy that no rule reads, by what their weights, inputs and classes are called: added to a refusal.

What refuses them first is often a detail: a state whose shape nothing tells, a product, several results.
"""

import re
from collections.abc import Callable, Iterable

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError

_ONE_PASS = "Use a policy that makes its action of the observation in one pass"
_FEED_FORWARD = "Use a feed-forward policy of linear layers, a GRU or an LSTM"
_FAMILIES = (
    (
        "a state space (Mamba, S4), and state spaces are not read",
        r"a_?log|log_?a|(dt|x)_proj|ssm\w*|\w*mamba\w*|s4d?\w?|s5|s6|hippo|lambda_re|log_(dt|step)|inv_dt|nu_log|theta_log|"
        r"ssm_states?|conv_states?|inference_params|state_?space\w*|selective\w*|rwkv\w*|lru",
        _FEED_FORWARD,
    ),
    (
        "a transformer, and attention is not read",
        r"in_proj_weight|self_attn\w*|\w*attention\w*|attn|mha|c_attn|qkv|w?[qkv]_(proj|lin)|pos_emb\w*|\w*transformer\w*|kv_?cache|"
        r"past_key_values?|gpt\w*|vit",
        _FEED_FORWARD,
    ),
    (
        "a diffusion or flow-matching policy, which makes its action in several steps",
        r"\w*nois[ey]\w*|denois\w*|\w*diffusion\w*|time_?(mlp|emb\w*|encoder)|timesteps?|alphas_cumprod|betas|ddpm|ddim|\w*unet\w*|"
        r"flow_?matching|velocity_net|score_net",
        _ONE_PASS,
    ),
    (
        "a mixture of experts, which chooses parts of the network by the observation",
        r"experts?|router|moe|\w*mixture\w*|gating(_net\w*)?|gate_net\w*",
        _FEED_FORWARD,
    ),
)  # fmt: skip
_NAMED = ("state space", "attention", "mixture of experts", "a mixture", "diffusion", "transformer")
_OPEN = "the observation's size is not known; pass observation_shape"
"""In refusals that no kind of policy explains: with its size, the policy may be read."""
_MOST_NAMES = 20_000


def family_of(names: Iterable[str]) -> tuple[str, str, str] | None:
    """Return the first name that a family's parts have, what it is then, and what to do instead; None without any."""
    words: dict[str, str] = {}
    for place, name in enumerate(names):
        if place > _MOST_NAMES:
            break
        for part in re.split(r"[./:\s]+", name[:300]):
            words.setdefault(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part).lower(), name)
    for what, pattern, remedy in _FAMILIES:
        for word, name in words.items():
            if re.fullmatch(pattern, re.sub(r"_?\d+$", "", word)) or re.fullmatch(pattern, word):
                return name, what, remedy
    return None


def called(read: Callable[[], Actor], names: Callable[[], Iterable[str]]) -> Actor:
    """Read a policy; where it is refused, and its parts are called like those of a family, say so.

    Raises:
        UnsupportedLayerError: it is refused.
        SourceError: it is refused, and its parts' names tell nothing, or its observation's size is all that lacks.
    """
    try:
        return read()
    except (UnsupportedLayerError, SourceError) as error:
        told = str(error)
        own = isinstance(error, UnsupportedLayerError)
        named = any(word in told for word in _NAMED) and not (own and error.kind == "outer product")
        if named or _OPEN in told or _of_file(error):
            raise
        found = family_of(names())
        if found is None:
            raise
        name, what, remedy = found
        if not own:
            told = told.partition("; pass ")[0]
            raise UnsupportedLayerError(name, "policy", f"{told}; by this name it is {what}", remedy) from None
        reason = f"{error.reason}; by the name of {name} it is {what}"
        raise UnsupportedLayerError(error.path, error.kind, reason, remedy) from None


def _of_file(error: Exception) -> bool:
    """Return whether a file is at fault, not what it holds."""
    return isinstance(error, SourceError) and any(
        text in str(error) for text in ("refused", "not a readable", "NaN", "damaged", "no such file", "cannot read")
    )
