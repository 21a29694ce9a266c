/* The compressed ANN in plain C: it skips inputs that are zero, and the blocks of weights that are pruned. */
#include "sparse_ann.h"

static inline void add_blocks(const sparse_layer *layer, const float *restrict x, const int32_t block, float *restrict y) {
    for (int32_t j = 0; j < layer->inputs; j++) {
        const float value = x[j];
        if (value == 0.0f) {
            continue;
        }
        for (int32_t i = layer->starts[j]; i < layer->starts[j + 1]; i++) {
            const float *restrict row = layer->weights + (int64_t)i * block;
            float *restrict to = y + layer->columns[i];
            for (int32_t k = 0; k < block; k++) {
                to[k] += value * row[k];
            }
        }
    }
}

static inline void add_rows(const sparse_layer *layer, const float *restrict x, float *restrict y) {
    for (int32_t j = 0; j < layer->inputs; j++) {
        const float value = x[j], *restrict row = layer->weights + (int64_t)j * layer->outputs;
        if (value == 0.0f) {
            continue;
        }
        for (int32_t k = 0; k < layer->outputs; k++) {
            y[k] += value * row[k];
        }
    }
}

static void run_layer(const sparse_layer *layer, const float *x, int relu, float *y) {
    for (int32_t k = 0; k < layer->outputs; k++) {
        y[k] = layer->bias[k];
    }
    switch (layer->block) { /* so that every loop over a block has a known length */
    case 32: add_blocks(layer, x, 32, y); break;
    case 16: add_blocks(layer, x, 16, y); break;
    case 8: add_blocks(layer, x, 8, y); break;
    case 4: add_blocks(layer, x, 4, y); break;
    case 1: add_blocks(layer, x, 1, y); break;
    default: add_rows(layer, x, y);
    }
    for (int32_t k = 0; relu && k < layer->outputs; k++) {
        y[k] = y[k] > 0.0f ? y[k] : 0.0f;
    }
}

void sparse_ann(const sparse_layer *layers, int32_t count, int32_t widest, const float *obs, float *hidden, float *y) {
    const float *x = obs;
    for (int32_t i = 0; i < count; i++) {
        float *to = i + 1 == count ? y : hidden + (int64_t)(i % 2) * widest;
        run_layer(layers + i, x, i + 1 < count, to);
        x = to;
    }
}
