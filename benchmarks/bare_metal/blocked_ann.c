/* The ANN as it is written for speed on a small processor: eight outputs at a time, their sums in registers, fused
 * multiply-adds. Arguments as in plain_ann.c; `skip` passes over inputs that are zero. */
#include <stdint.h>

#define BLOCK 8

static void block(const float *weight, const float *bias, const float *x, int32_t inputs, int32_t outputs, int skip,
                  float *y) {
    float sums[BLOCK];
    int32_t j, k;
    for (k = 0; k < BLOCK; k++) {
        sums[k] = bias[k];
    }
    for (j = 0; j < inputs; j++, weight += outputs) {
        const float value = x[j];
        if (skip && value == 0.0f) {
            continue;
        }
#pragma GCC unroll 8
        for (k = 0; k < BLOCK; k++) {
            sums[k] = __builtin_fmaf(value, weight[k], sums[k]);
        }
    }
    for (k = 0; k < BLOCK; k++) {
        y[k] = sums[k];
    }
}

void plain_ann(const float *const *weights, const float *const *biases, const int32_t *sizes, int32_t layers,
               int32_t widest, int32_t skip, const float *obs, float *hidden, float *y);

void plain_ann(const float *const *weights, const float *const *biases, const int32_t *sizes, int32_t layers,
               int32_t widest, int32_t skip, const float *obs, float *hidden, float *y) {
    const float *x = obs;
    int32_t i, j, k;
    for (i = 0; i < layers; i++) {
        const int32_t outputs = sizes[i + 1];
        float *to = i + 1 == layers ? y : hidden + (i % 2) * widest;
        for (k = 0; k + BLOCK <= outputs; k += BLOCK) {
            block(weights[i] + k, biases[i] + k, x, sizes[i], outputs, skip, to + k);
        }
        for (; k < outputs; k++) {
            float sum = biases[i][k];
            for (j = 0; j < sizes[i]; j++) {
                sum = __builtin_fmaf(x[j], weights[i][j * outputs + k], sum);
            }
            to[k] = sum;
        }
        for (k = 0; i + 1 < layers && k < outputs; k++) {
            to[k] = to[k] > 0.0f ? to[k] : 0.0f;
        }
        x = to;
    }
}
