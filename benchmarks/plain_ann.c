/* The baselines in plain C: the same ReLU actor, dense, and skipping the inputs that are zero. Weights (inputs, outputs). */
#include <stdint.h>

static void layer(const float *restrict weight, const float *restrict bias, const float *restrict x, int32_t inputs,
                  int32_t outputs, int skip, int relu, float *restrict y) {
    for (int32_t k = 0; k < outputs; k++) {
        y[k] = bias[k];
    }
    for (int32_t j = 0; j < inputs; j++) {
        const float value = x[j], *restrict row = weight + (int64_t)j * outputs;
        if (skip && value == 0.0f) {
            continue;
        }
        for (int32_t k = 0; k < outputs; k++) {
            y[k] += value * row[k];
        }
    }
    for (int32_t k = 0; relu && k < outputs; k++) {
        y[k] = y[k] > 0.0f ? y[k] : 0.0f;
    }
}

/* Three layers; `hidden` is scratch for two vectors of the widest layer. */
void plain_ann(const float *const *weights, const float *const *biases, const int32_t *sizes, int32_t layers, int32_t widest,
               int32_t skip, const float *obs, float *hidden, float *y) {
    const float *x = obs;
    for (int32_t i = 0; i < layers; i++) {
        float *to = i + 1 == layers ? y : hidden + (int64_t)(i % 2) * widest;
        layer(weights[i], biases[i], x, sizes[i], sizes[i + 1], skip, i + 1 < layers, to);
        x = to;
    }
}
