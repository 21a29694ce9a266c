/* What Python loads: one copy of the core per instruction set, told apart by SNN_VARIANT, all with the same bits. */
#include "check.h"
#include "decide.h"
#include "sequence.h"
#include "workspace.h"

#if defined(_WIN32)
#define SNN_EXPORT __declspec(dllexport)
#else
#define SNN_EXPORT __attribute__((visibility("default")))
#endif
#define SNN_JOIN_(name, variant) name##_##variant
#define SNN_JOIN(name, variant) SNN_JOIN_(name, variant)
#define SNN_NAME(name) SNN_JOIN(name, SNN_VARIANT)

/* Everything a session hands over, once; its buffers stay where they are. */
typedef struct {
    snn_program program;
    const double *obs;       /* (rows, inputs) */
    float *state, *actions;  /* (rows, …) */
    int64_t *counts;         /* (rows, …) */
    float *floats;           /* scratch for `block` rows */
    int32_t *integers;
    int32_t rows, block;
} snn_call;

SNN_FUNCTION int snn_all_usable(const double *obs, int64_t n) {
    const double largest = (double)SNN_LARGEST_OBSERVATION;
    int64_t j;
    int good = 1;
    for (j = 0; j < n; j++) {
        good &= obs[j] <= largest && obs[j] >= -largest ? 1 : 0;
    }
    return good;
}

SNN_EXPORT int SNN_NAME(snn_run)(const snn_call *call);
SNN_EXPORT void SNN_NAME(snn_sequence)(const float *h, int64_t decisions, int64_t neurons, const float *quantum,
                                       const float *gamma, float *memory, int32_t digits, const float *powers,
                                       int32_t power_count, float alpha, float *residual, float *sent, int64_t *spikes);
SNN_EXPORT void SNN_NAME(snn_elementary)(int32_t which, const float *x, float *y, int64_t n);

/* One decision of every row; 0, with nothing touched, where an observation is not finite or too large. */
int SNN_NAME(snn_run)(const snn_call *call) {
    const snn_header *header = call->program.header;
    const int32_t inputs = call->program.stages[0].width, count_size = snn_count_size(header);
    int32_t first;
    if (!snn_all_usable(call->obs, (int64_t)call->rows * inputs)) {
        return 0;
    }
    for (first = 0; first < call->rows; first += call->block) {
        const int32_t rows = call->rows - first < call->block ? call->rows - first : call->block;
        const snn_workspace w = snn_lay_out(header, call->block, call->floats, call->integers);
        int32_t row, j;
        for (row = 0; row < rows; row++) {
            const double *SNN_RESTRICT given = call->obs + (ptrdiff_t)(first + row) * inputs;
            float *SNN_RESTRICT x = snn_vector(w.values, row, header->row_size);
            for (j = 0; j < inputs; j++) {
                x[j] = (float)given[j];
            }
        }
        snn_decide(&call->program, call->state + (ptrdiff_t)first * header->state_size, &w, rows,
                   call->actions + (ptrdiff_t)first * header->action_size, call->counts + (ptrdiff_t)first * count_size);
    }
    return 1;
}

void SNN_NAME(snn_sequence)(const float *h, int64_t decisions, int64_t neurons, const float *quantum,
                            const float *gamma, float *memory, int32_t digits, const float *powers,
                            int32_t power_count, float alpha, float *residual, float *sent, int64_t *spikes) {
    snn_encode_sequence(h, decisions, neurons, quantum, gamma, memory, digits, powers, power_count, alpha, residual,
                        sent, spikes);
}

/* y ← exp, expm1, tanh, erf, log1p or the square root of x, for the tests. */
void SNN_NAME(snn_elementary)(int32_t which, const float *x, float *y, int64_t n) {
    int64_t i;
    for (i = 0; i < n; i++) {
        y[i] = which == 0 ? snn_exp(x[i]) : which == 1 ? snn_expm1(x[i]) : which == 2 ? snn_tanh(x[i])
             : which == 3 ? snn_erf(x[i]) : which == 4 ? snn_log1p(x[i]) : snn_sqrt(x[i]);
    }
}

#if defined(SNN_FIRST_VARIANT)
/* What does not depend on the instruction set. */
SNN_EXPORT int snn_check_program(const snn_program *program, int64_t stages, int64_t connections, int64_t parameters,
                                 int64_t indices);
SNN_EXPORT void snn_scratch(const snn_header *header, int32_t rows, int64_t *floats, int64_t *integers);
SNN_EXPORT void snn_record_sizes(int64_t *sizes);
SNN_EXPORT uint32_t snn_fingerprint(void);
SNN_EXPORT int snn_level(void);

int snn_check_program(const snn_program *program, int64_t stages, int64_t connections, int64_t parameters,
                      int64_t indices) {
    return snn_check(program, stages, connections, parameters, indices);
}

void snn_scratch(const snn_header *header, int32_t rows, int64_t *floats, int64_t *integers) {
    *floats = snn_workspace_floats(header, rows);
    *integers = snn_workspace_integers(header, rows);
}

/* Bytes of a header, a stage, a connection and a call: the two sides must lay them out alike. */
void snn_record_sizes(int64_t *sizes) {
    sizes[0] = (int64_t)sizeof(snn_header);
    sizes[1] = (int64_t)sizeof(snn_stage);
    sizes[2] = (int64_t)sizeof(snn_connection);
    sizes[3] = (int64_t)sizeof(snn_call);
}

/* Of the sources that the library was built from. */
uint32_t snn_fingerprint(void) { return SNN_FINGERPRINT; }

/* How many of the variants after the first this processor can run. */
int snn_level(void) {
#if defined(SNN_MORE_VARIANTS)
    if (!__builtin_cpu_supports("avx2")) {
        return 0;
    }
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") ? 2 : 1;
#else
    return 0;
#endif
}
#endif
