/* A layer of the sparse ANN in plain C. Weights are kept as the core keeps them (snn_policy/engines/core/blocks.py). */
#include <stdint.h>

typedef struct {
    const float *weights;            /* block 0: (inputs, outputs); else (blocks, block) */
    const float *bias;               /* (outputs) */
    const int32_t *starts, *columns; /* (inputs + 1): an input's first block; (blocks): a block's first output */
    int32_t inputs, outputs, block;
} sparse_layer;

/* `hidden`: scratch for two vectors of the widest layer, each rounded up to a multiple of 32, as is `y`. */
void sparse_ann(const sparse_layer *layers, int32_t count, int32_t widest, const float *obs, float *hidden, float *y);
