"""The fixed parts of an exported C policy: its header, its functions, an example's control loop, a build file."""

from collections.abc import Iterable

_BEFORE_CORE = """\
/* A spiking policy: snn-policy's core, then this policy's program. Generated; self-contained. See policy.h. */
#include "policy.h"

#if defined(__AVR__)
#error "an 8-bit AVR has no room for a network's constants: take a 32-bit board"
#endif
"""

CMAKE = """cmake_minimum_required(VERSION 3.10)
project(@prefix@ C)

set(CMAKE_C_STANDARD 99)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(@prefix@ STATIC policy.c)
target_include_directories(@prefix@ PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options(@prefix@ PRIVATE -ffp-contract=off)  # the same bits on every processor
endif()

add_executable(@prefix@_example main.c)
target_link_libraries(@prefix@_example PRIVATE @prefix@)
"""


def before_core(macros: Iterable[str]) -> str:
    """Return what policy.c begins with; the macros leave parts of the core out."""
    return _BEFORE_CORE + "".join(f"#define {macro} 1\n" for macro in macros)


def header(prefix: str, sizes: dict[str, int], described: str, digest: str) -> str:
    """Return policy.h."""
    upper = prefix.upper()
    macros = "\n".join(f"#define {upper}_{name} {value}" for name, value in sizes.items())
    return f"""/* A spiking policy in C: {described}
 *
 * No heap, no libm, no global state; C99 and C++. One {prefix}_state per robot; {prefix}_reset begins an episode.
 * The same bits on every compiler and processor: compile with -ffp-contract=off and without -ffast-math.
 * {digest}
 */
#ifndef {upper}_POLICY_H
#define {upper}_POLICY_H

#include <stddef.h>
#include <stdint.h>

{macros}

#ifdef __cplusplus
extern "C" {{
#endif

/* Everything that a decision reads and writes; only `memory` and `counts` outlive it. */
typedef struct {{
    int64_t counts[{upper}_COUNTS];
    float memory[{upper}_STATE];
    float floats[{upper}_FLOATS];
    int32_t integers[{upper}_INTEGERS];
}} {prefix}_state;

/* What was spent since the reset. An event is a neuron that sent something in a decision, counted by its
 * fan-out: the weights that a memory fetches. */
typedef struct {{
    int64_t decisions, spikes, events, synaptic_operations, multiply_accumulates;
}} {prefix}_costs;

/* Forget everything, as at the start of an episode; needed before the first decision, too. */
void {prefix}_reset({prefix}_state *state);

/* One decision: obs[{upper}_INPUTS] → action[{upper}_ACTIONS] (for discrete actions: the index, as a float).
 * Returns 1; or 0, with nothing touched, where an observation is not finite or beyond 1e30. */
int {prefix}_act({prefix}_state *state, const float *obs, float *action);

{prefix}_costs {prefix}_counts(const {prefix}_state *state);

size_t {prefix}_state_size(void);

#ifdef __cplusplus
}}
#endif

#endif
"""


def functions(prefix: str, spiking: int) -> str:
    """Return the functions that policy.h declares; `spiking` stages are counted."""
    upper = prefix.upper()
    return f"""static const snn_program program = {{&header, stages, connections, parameters, indices}};

void {prefix}_reset({prefix}_state *state) {{ memset(state, 0, sizeof *state); }}

int {prefix}_act({prefix}_state *state, const float *obs, float *action) {{
    const snn_workspace w = snn_lay_out(&header, 1, state->floats, state->integers);
    if (!snn_usable(obs, {upper}_INPUTS)) {{
        return 0;
    }}
    memcpy(w.values, obs, {upper}_INPUTS * sizeof *obs);
    snn_decide(&program, state->memory, &w, 1, action, state->counts);
    return 1;
}}

{prefix}_costs {prefix}_counts(const {prefix}_state *state) {{
    const int64_t *costs = state->counts + {2 * spiking}, *sums = costs + SNN_SUMS;
    {prefix}_costs found;
    int stage;
    found.decisions = costs[SNN_DECISIONS];
    found.spikes = 0;
    for (stage = 0; stage < {spiking}; stage++) {{
        found.spikes += sums[stage];
    }}
    found.events = sums[{spiking} + SNN_EVENTS];
    found.synaptic_operations = sums[{spiking} + SNN_OPERATIONS];
    found.multiply_accumulates = sums[{spiking} + SNN_MACS];
    return found;
}}

size_t {prefix}_state_size(void) {{ return sizeof({prefix}_state); }}
"""


def example(prefix: str) -> str:
    """Return main.c: a control loop with a deadline."""
    upper = prefix.upper()
    return f"""/* A control loop: observations on standard input, actions on standard output, late ones counted. */
#include <stdio.h>
#include <time.h>

#include "policy.h"

#define PERIOD_SECONDS 0.005

static {prefix}_state state; /* too large for a small stack */

static int read_observation(float *obs) {{
    int i;
    for (i = 0; i < {upper}_INPUTS; i++) {{
        if (scanf("%f", &obs[i]) != 1) {{
            return 0;
        }}
    }}
    return 1;
}}

int main(void) {{
    static float obs[{upper}_INPUTS], action[{upper}_ACTIONS];
    long late = 0;
    int i;
    {prefix}_reset(&state);
    while (read_observation(obs)) {{
        const clock_t begin = clock();
        const int usable = {prefix}_act(&state, obs, action); /* else: keep the last action */
        late += (double)(clock() - begin) / (double)CLOCKS_PER_SEC > PERIOD_SECONDS ? 1 : 0;
        for (i = 0; i < {upper}_ACTIONS; i++) {{
            printf(i + 1 < {upper}_ACTIONS ? "%.9g " : "%.9g\\n", (double)action[i]);
        }}
        if (!usable) {{
            fprintf(stderr, "an observation is not finite: the last action is repeated\\n");
        }}
    }}
    fprintf(stderr, "%ld late decisions\\n", late);
    return 0;
}}
"""
