/* Cells that multiply: products, and the gates of GRU and LSTM as torch computes them. */
#ifndef SNN_GATES_H
#define SNN_GATES_H

#include "elementary.h"

/* h = z·other, in z */
SNN_FUNCTION void snn_multiply(float *SNN_RESTRICT z, const float *SNN_RESTRICT other, int32_t n) {
    int32_t k;
    for (k = 0; k < n; k++) {
        z[k] *= other[k];
    }
}

/* Ports a and b, (r, u, n) each: r = σ(a_r + b_r); u = σ(a_u + b_u); n = tanh(a_n + r·b_n); h = n + u·(h₋ − n), in the
 * first n of a; `memory` is h less `start`, which may be NULL. */
SNN_FUNCTION void snn_gru(float *a, const float *SNN_RESTRICT b, const float *SNN_RESTRICT start, int32_t n,
                          float *SNN_RESTRICT memory) {
    float *SNN_RESTRICT h = a;
    const float *SNN_RESTRICT update = a + n, *SNN_RESTRICT fresh = a + 2 * (ptrdiff_t)n;
    int32_t k;
    for (k = 0; k < n; k++) {
        const float r = snn_sigmoid(h[k] + b[k]), u = snn_sigmoid(update[k] + b[n + k]);
        const float c = snn_tanh(fresh[k] + r * b[2 * (ptrdiff_t)n + k]), from = start == NULL ? 0.0f : start[k];
        const float next = c + u * (memory[k] + from - c);
        memory[k] = next - from;
        h[k] = next;
    }
}

/* One port z, (i, f, g, o): c = σ(f)·c₋ + σ(i)·tanh(g); h = σ(o)·tanh(c), in the first n of z; `memory` is c less `start`,
 * which may be NULL. */
SNN_FUNCTION void snn_lstm(float *z, const float *SNN_RESTRICT start, int32_t n, float *SNN_RESTRICT memory) {
    float *SNN_RESTRICT h = z;
    const float *SNN_RESTRICT keep = z + n, *SNN_RESTRICT fresh = z + 2 * (ptrdiff_t)n,
                *SNN_RESTRICT out = z + 3 * (ptrdiff_t)n;
    int32_t k;
    for (k = 0; k < n; k++) {
        const float from = start == NULL ? 0.0f : start[k];
        const float c = snn_sigmoid(keep[k]) * (memory[k] + from) + snn_sigmoid(h[k]) * snn_tanh(fresh[k]);
        memory[k] = c - from;
        h[k] = snn_sigmoid(out[k]) * snn_tanh(c);
    }
}

#endif
