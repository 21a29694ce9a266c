/* A sparse linear connection: every spike adds what its neuron has of weights, block by block, and nothing else.
 *
 * Weights of zero are left out where they come in blocks of `block` consecutive outputs of one input (1: one by one).
 * Input i has the blocks `starts[i]` … `starts[i + 1]` − 1; block e adds to the outputs from `columns[e]` on.
 *
 *     sums[columns[e] + k] += size[i]·W[e][k]
 *
 * Spike by spike in the list's order, as `snn_propagate_in_order` goes through the dense rows: the same numbers.
 */
#ifndef SNN_SPARSE_H
#define SNN_SPARSE_H

#include "platform.h"

#if defined(SNN_VECTOR)
typedef float snn_four __attribute__((vector_size(16), aligned(4), may_alias));
typedef float snn_eight __attribute__((vector_size(32), aligned(4), may_alias));
#else
typedef float snn_four;
typedef float snn_eight;
#endif

#define SNN_ADD_SIDE_BY_SIDE(sum, s, a, wide) \
    for (k = 0; k < (wide); k++) {            \
        (sum)[k] += (s) * (a)[k];             \
    }
#if defined(SNN_VECTOR)
#define SNN_ADD_BLOCK SNN_ADD_SIDE_BY_SIDE
#else
/* Four sums are read before the first is written: else each of them takes two instructions more for its address. */
#define SNN_ADD_BLOCK(sum, s, a, wide)                                                          \
    for (k = 0; k < (wide); k += 4) {                                                           \
        const float first = (sum)[k] + (s) * (a)[k], second = (sum)[k + 1] + (s) * (a)[k + 1];  \
        const float third = (sum)[k + 2] + (s) * (a)[k + 2];                                    \
        const float fourth = (sum)[k + 3] + (s) * (a)[k + 3];                                   \
        (sum)[k] = first;                                                                       \
        (sum)[k + 1] = second;                                                                  \
        (sum)[k + 2] = third;                                                                   \
        (sum)[k + 3] = fourth;                                                                  \
    }
#endif

/* sums += W·(what a list holds), for blocks of `wide` times `type`. */
#define SNN_ADD_BLOCKS(add, type, wide)                                                                \
    for (i = 0; i < count; i++) {                                                                      \
        const float s = sizes[i];                                                                      \
        const int32_t end = starts[index[i] + 1];                                                      \
        for (e = starts[index[i]]; e < end; e++) {                                                     \
            const type *SNN_RESTRICT a = (const type *)(const void *)(weights + (ptrdiff_t)e * block); \
            type *SNN_RESTRICT sum = (type *)(void *)(sums + columns[e]);                              \
            add(sum, s, a, wide)                                                                       \
        }                                                                                              \
    }

SNN_FUNCTION void snn_add_blocks(const float *weights, const int32_t *starts, const int32_t *columns, int32_t block,
                                 const int32_t *index, const float *sizes, int32_t count, float *sums) {
    const int32_t four = (int32_t)(sizeof(snn_four) / sizeof(float)), eight = (int32_t)(sizeof(snn_eight) / sizeof(float));
    int32_t i, e, k;
    switch (block) {
    case 32:
        SNN_ADD_BLOCKS(SNN_ADD_BLOCK, snn_eight, 32 / eight)
        break;
    case 16:
        SNN_ADD_BLOCKS(SNN_ADD_BLOCK, snn_eight, 16 / eight)
        break;
    case 8:
        SNN_ADD_BLOCKS(SNN_ADD_BLOCK, snn_eight, 8 / eight)
        break;
    case 4:
        SNN_ADD_BLOCKS(SNN_ADD_BLOCK, snn_four, 4 / four)
        break;
    default:
        SNN_ADD_BLOCKS(SNN_ADD_SIDE_BY_SIDE, float, block)
        break;
    }
}

/* totals[n] += W·(what train n holds) for `count` trains, `step` apart. */
SNN_FUNCTION void snn_propagate_sparse(const float *weights, const int32_t *starts, const int32_t *columns, int32_t block,
                                       int32_t row_size, const int32_t *indices, const float *sizes,
                                       const int32_t *listed, float *totals, int32_t count, int32_t step) {
    int32_t n;
    for (n = 0; n < count; n++) {
        const ptrdiff_t at = (ptrdiff_t)n * step * row_size;
        snn_add_blocks(weights, starts, columns, block, indices + at, sizes + at, listed[n * step], totals + at);
    }
}

#endif
