/* A linear connection: every spike adds its neuron's row of weights to the sums of the receivers.
 *
 *     sums[k] += Σ_i size[i]·W[index[i]][k]
 *
 * Four spikes at a time, ((a + b) + (c + d)), then one by one: the order of a sum depends on its list alone, never on
 * how many rows or columns are worked through together. Sparse connections take every spike by itself
 * (`snn_propagate_in_order`): then what a weight of zero adds can be left out (`sparse.h`), and the sum stays the same.
 */
#ifndef SNN_LINEAR_H
#define SNN_LINEAR_H

#include "platform.h"
#include "program.h"

#define SNN_TILE 64 /* columns of weights that stay in the cache while the lists of many rows pass */
#define SNN_LONG_ROW 256 /* columns from which a single list is worked through row by row: memory is read in order */

#if defined(SNN_VECTOR)
/* As `snn_add_rows`, for the columns of one tile: their sums stay in registers. */
SNN_FUNCTION void snn_add_tile(const float *weights, int32_t stride, const int32_t *SNN_RESTRICT index,
                               const float *SNN_RESTRICT size, int32_t count, float *SNN_RESTRICT sums) {
    snn_floats kept[SNN_TILE / SNN_VECTOR], *total = (snn_floats *)(void *)sums;
    int32_t i = 0, k;
#define SNN_ROW(n) ((const snn_floats *)(const void *)(weights + (ptrdiff_t)index[i + (n)] * stride))
    for (k = 0; k < SNN_TILE / SNN_VECTOR; k++) {
        kept[k] = total[k];
    }
    for (; i + 4 <= count; i += 4) {
        const snn_floats *a = SNN_ROW(0), *b = SNN_ROW(1), *c = SNN_ROW(2), *d = SNN_ROW(3);
        const float sa = size[i], sb = size[i + 1], sc = size[i + 2], sd = size[i + 3];
        for (k = 0; k < SNN_TILE / SNN_VECTOR; k++) {
            kept[k] += (sa * a[k] + sb * b[k]) + (sc * c[k] + sd * d[k]);
        }
    }
    for (; i < count; i++) {
        const snn_floats *a = SNN_ROW(0);
        const float sa = size[i];
        for (k = 0; k < SNN_TILE / SNN_VECTOR; k++) {
            kept[k] += sa * a[k];
        }
    }
    for (k = 0; k < SNN_TILE / SNN_VECTOR; k++) {
        total[k] = kept[k];
    }
#undef SNN_ROW
}
#endif

SNN_ALWAYS void snn_add_rows(const float *SNN_RESTRICT weights, int32_t stride, int32_t columns,
                             const int32_t *SNN_RESTRICT index, const float *SNN_RESTRICT size, int32_t count,
                             float *SNN_RESTRICT sums) {
    int32_t i = 0, k;
#define SNN_ROW(n) (weights + (ptrdiff_t)index[i + (n)] * stride)
    for (; i + 8 <= count; i += 8) {
        const float *SNN_RESTRICT a = SNN_ROW(0), *SNN_RESTRICT b = SNN_ROW(1), *SNN_RESTRICT c = SNN_ROW(2),
                    *SNN_RESTRICT d = SNN_ROW(3), *SNN_RESTRICT e = SNN_ROW(4), *SNN_RESTRICT f = SNN_ROW(5),
                    *SNN_RESTRICT g = SNN_ROW(6), *SNN_RESTRICT h = SNN_ROW(7);
        const float sa = size[i], sb = size[i + 1], sc = size[i + 2], sd = size[i + 3];
        const float se = size[i + 4], sf = size[i + 5], sg = size[i + 6], sh = size[i + 7];
        for (k = 0; k < columns; k++) {
            const float half = sums[k] + ((sa * a[k] + sb * b[k]) + (sc * c[k] + sd * d[k]));
            sums[k] = half + ((se * e[k] + sf * f[k]) + (sg * g[k] + sh * h[k]));
        }
    }
    if (i + 4 <= count) {
        const float *SNN_RESTRICT a = SNN_ROW(0), *SNN_RESTRICT b = SNN_ROW(1), *SNN_RESTRICT c = SNN_ROW(2),
                    *SNN_RESTRICT d = SNN_ROW(3);
        const float sa = size[i], sb = size[i + 1], sc = size[i + 2], sd = size[i + 3];
        for (k = 0; k < columns; k++) {
            sums[k] += (sa * a[k] + sb * b[k]) + (sc * c[k] + sd * d[k]);
        }
        i += 4;
    }
    for (; i < count; i++) {
        const float *SNN_RESTRICT a = SNN_ROW(0);
        const float sa = size[i];
        for (k = 0; k < columns; k++) {
            sums[k] += sa * a[k];
        }
    }
#undef SNN_ROW
}

/* totals[n] += W·(what train n holds) for `count` trains, `step` apart; a tile of columns after the other. Of each row
 * of weights, `stride` apart, the first `columns` are used. */
SNN_FUNCTION void snn_propagate_linear(const float *weights, int32_t stride, int32_t columns, int32_t row_size,
                                       const int32_t *indices, const float *sizes, const int32_t *listed, float *totals,
                                       int32_t count, int32_t step) {
    int32_t column = 0, n;
    if (count == 1 && columns > SNN_LONG_ROW) {
        snn_add_rows(weights, stride, columns, indices, sizes, listed[0], totals);
        return;
    }
    for (; column + SNN_TILE <= columns; column += SNN_TILE) {
        for (n = 0; n < count; n++) {
            const ptrdiff_t at = (ptrdiff_t)n * step * row_size;
#if defined(SNN_VECTOR)
            snn_add_tile(weights + column, stride, indices + at, sizes + at, listed[n * step], totals + at + column);
#else
            snn_add_rows(weights + column, stride, SNN_TILE, indices + at, sizes + at, listed[n * step],
                         totals + at + column);
#endif
        }
    }
    if (column < columns) {
        for (n = 0; n < count; n++) {
            const ptrdiff_t at = (ptrdiff_t)n * step * row_size;
            snn_add_rows(weights + column, stride, columns - column, indices + at, sizes + at, listed[n * step],
                         totals + at + column);
        }
    }
}

/* sums += W·(what a list holds), for `columns` columns, spike by spike. */
SNN_ALWAYS void snn_add_in_order(const float *weights, int32_t stride, int32_t columns, const int32_t *SNN_RESTRICT index,
                                 const float *SNN_RESTRICT size, int32_t count, float *SNN_RESTRICT sums) {
    int32_t i, k;
#if defined(SNN_VECTOR)
    snn_floats kept[SNN_TILE / SNN_VECTOR];
    const int32_t wide = columns / SNN_VECTOR;
    if (columns % SNN_VECTOR == 0) {
        for (k = 0; k < wide; k++) {
            kept[k] = ((const snn_floats *)(const void *)sums)[k];
        }
        for (i = 0; i < count; i++) {
            const snn_floats *row = (const snn_floats *)(const void *)(weights + (ptrdiff_t)index[i] * stride);
            const float s = size[i];
            for (k = 0; k < wide; k++) {
                kept[k] += s * row[k];
            }
        }
        for (k = 0; k < wide; k++) {
            ((snn_floats *)(void *)sums)[k] = kept[k];
        }
        return;
    }
#endif
    for (i = 0; i < count; i++) {
        const float *SNN_RESTRICT row = weights + (ptrdiff_t)index[i] * stride;
        const float s = size[i];
        for (k = 0; k < columns; k++) {
            sums[k] += s * row[k];
        }
    }
}

/* As `snn_propagate_linear`, each spike by itself. */
SNN_FUNCTION void snn_propagate_in_order(const float *weights, int32_t stride, int32_t columns, int32_t row_size,
                                         const int32_t *indices, const float *sizes, const int32_t *listed,
                                         float *totals, int32_t count, int32_t step) {
    int32_t column, n;
    for (column = 0; column < columns; column += SNN_TILE) {
        for (n = 0; n < count; n++) {
            const ptrdiff_t at = (ptrdiff_t)n * step * row_size;
            if (columns - column >= SNN_TILE) {
                snn_add_in_order(weights + column, stride, SNN_TILE, indices + at, sizes + at, listed[n * step],
                                 totals + at + column);
            } else if (columns - column == SNN_LANES) { /* an action, mostly */
                snn_add_in_order(weights + column, stride, SNN_LANES, indices + at, sizes + at, listed[n * step],
                                 totals + at + column);
            } else {
                snn_add_in_order(weights + column, stride, columns - column, indices + at, sizes + at, listed[n * step],
                                 totals + at + column);
            }
        }
    }
}

#endif
