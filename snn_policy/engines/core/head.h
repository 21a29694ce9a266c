/* The two ends of a network: the observation's normaliser, and the head that makes an action of the last sums. */
#ifndef SNN_HEAD_H
#define SNN_HEAD_H

#include "elementary.h"
#include "program.h"

/* x ← clip((x − mean)/scale, ±clip), in place */
SNN_FUNCTION void snn_normalise(const snn_program *program, float *x) {
    const snn_header *header = program->header;
    const int32_t n = program->stages[0].width;
    const float *SNN_RESTRICT mean, *SNN_RESTRICT scale;
    const float clip = header->clip;
    int32_t j;
    if (header->normaliser < 0) {
        return;
    }
    mean = program->parameters + header->normaliser;
    scale = mean + n;
    for (j = 0; j < n; j++) {
        x[j] = snn_min(snn_max((x[j] - mean[j]) / scale[j], -clip), clip);
    }
}

/* tanh: tanh(clip(y, ±pre_clip))·scale + offset within [low, high] · clip: y within [low, high] · argmax: the index of
 * the largest entry of every discrete action, whose number `low` gives: 0, …, 0, 1, …, 1, … */
SNN_FUNCTION void snn_apply_head(const snn_program *program, const float *y, float *action) {
    const snn_header *header = program->header;
    const int32_t n = program->stages[header->stage_count - 1].width;
    const float *low = program->parameters + header->head, *high = low + n, *scale = high + n, *offset = scale + n;
    int32_t k, first = 0, best = 0, number = 0;
    if (header->head_kind == SNN_HEAD_ARGMAX) {
        for (k = 0; k < n; k++) {
            if (low[k] > (float)number) {
                first = best = k;
                number++;
            }
            best = y[k] > y[best] ? k : best;
            action[number] = (float)(best - first);
        }
        return;
    }
    for (k = 0; k < n; k++) {
        float value = y[k];
        if (header->head_kind == SNN_HEAD_TANH) {
            value = snn_tanh(snn_min(snn_max(value, -header->pre_clip), header->pre_clip)) * scale[k] + offset[k];
        }
        action[k] = snn_min(snn_max(value, low[k]), high[k]);
    }
}

/* What no branch above can be trusted with: NaN, infinity, and values whose sums would overflow. */
SNN_FUNCTION int snn_usable(const float *x, int32_t n) {
    int32_t good = 1, j;
    for (j = 0; j < n; j++) {
        good &= snn_abs(x[j]) <= SNN_LARGEST_OBSERVATION ? 1 : 0;
    }
    return (int)good;
}

#endif
