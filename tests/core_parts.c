/* Single parts of the core, for the tests: each takes plain arrays. */
#include "activation.h"
#include "convolution.h"
#include "linear.h"
#include "listing.h"
#include "norm.h"
#include "sigma_delta.h"
#include "sparse.h"

#define SHOWN __attribute__((visibility("default")))

SHOWN void show_activate(float *z, int32_t n, int32_t activation, float parameter, float levels);
SHOWN void show_norm(float *z, int32_t n, int32_t kind, const float *weight, float epsilon);
SHOWN int32_t show_encode(float *v, float *quantum, float *unit, int32_t n, int32_t digits, const float *powers,
                          int32_t power_count, int32_t doubling, float *sent, int32_t *fired, int32_t *coarse);
SHOWN int32_t show_list(const float *v, int32_t n, int32_t *list, float *sizes);
SHOWN void show_propagate(const float *weights, int32_t stride, int32_t row_size, const int32_t *indices,
                          const float *sizes, const int32_t *listed, float *totals, int32_t count, int32_t step);
SHOWN void show_blocks(const float *weights, const int32_t *starts, const int32_t *columns, int32_t block,
                       const int32_t *index, const float *sizes, int32_t count, float *sums);
SHOWN void show_in_order(const float *weights, int32_t stride, int32_t row_size, const int32_t *index,
                         const float *sizes, int32_t count, float *sums);
SHOWN void show_convolve(const snn_connection *c, const float *weights, const int32_t *index, const float *sizes,
                         int32_t count, float *image, float *sums, float *z);

void show_activate(float *z, int32_t n, int32_t activation, float parameter, float levels) {
    snn_activate(z, n, activation, parameter, levels);
}

void show_norm(float *z, int32_t n, int32_t kind, const float *weight, float epsilon) {
    snn_norm(z, n, kind, weight, epsilon);
}

int32_t show_encode(float *v, float *quantum, float *unit, int32_t n, int32_t digits, const float *powers,
                    int32_t power_count, int32_t doubling, float *sent, int32_t *fired, int32_t *coarse) {
    snn_header header;
    snn_reached r;
    memset(&header, 0, sizeof header);
    header.power_count = power_count;
    header.doubling = doubling;
    r.v = v;
    r.quantum = quantum;
    r.unit = unit;
    r.sent = sent;
    r.fired = fired;
    return snn_encode(&header, powers, &r, n, digits, coarse);
}

int32_t show_list(const float *v, int32_t n, int32_t *list, float *sizes) { return snn_list_spikes(v, n, list, sizes); }

void show_propagate(const float *weights, int32_t stride, int32_t row_size, const int32_t *indices,
                    const float *sizes, const int32_t *listed, float *totals, int32_t count, int32_t step) {
    snn_propagate_linear(weights, stride, stride, row_size, indices, sizes, listed, totals, count, step);
}

void show_blocks(const float *weights, const int32_t *starts, const int32_t *columns, int32_t block,
                 const int32_t *index, const float *sizes, int32_t count, float *sums) {
    snn_add_blocks(weights, starts, columns, block, index, sizes, count, sums);
}

void show_in_order(const float *weights, int32_t stride, int32_t row_size, const int32_t *index,
                   const float *sizes, int32_t count, float *sums) {
    snn_propagate_in_order(weights, stride, stride, row_size, index, sizes, &count, sums, 1, 1);
}

void show_convolve(const snn_connection *c, const float *weights, const int32_t *index, const float *sizes,
                   int32_t count, float *image, float *sums, float *z) {
    snn_convolve(c, weights, index, sizes, count, image, sums);
    snn_add_channels(c, sums, z);
}
