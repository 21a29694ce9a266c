/* Whether a connection fits its stages, its weights lie within the parameters, and what it reads is still there. */
#ifndef SNN_CHECK_CONNECTION_H
#define SNN_CHECK_CONNECTION_H

#include "bounds.h"
#include "convolution.h"
#include "program.h"

/* Along one axis: whether `outputs` windows are what fits. */
SNN_FUNCTION int snn_axis_fits(int32_t size, int32_t kernel, int32_t stride, int32_t padding, int32_t outputs) {
    const int32_t most = 1 << 15;
    if (!snn_within(size, 1, most) || !snn_within(kernel, 1, most) || !snn_within(stride, 1, most) ||
        !snn_within(padding, 0, most)) {
        return 0;
    }
    return size + 2 * padding >= kernel && outputs == (size + 2 * padding - kernel) / stride + 1 ? 1 : 0;
}

SNN_FUNCTION int snn_check_geometry(const snn_header *h, const snn_connection *c) {
    const int32_t most = 1 << 15;
    int good = snn_within(c->channels, 1, most) && snn_within(c->out_channels, 1, most);
    good = good && snn_axis_fits(c->height, c->kernel_height, c->down, c->above, c->out_height);
    good = good && snn_axis_fits(c->width, c->kernel_width, c->right, c->beside, c->out_width);
    if (!good) {
        return 0;
    }
    good = (int64_t)c->channels * c->height * c->width == c->inputs;
    good = good && (int64_t)c->out_channels * c->out_height * c->out_width == c->outputs;
    good = good && snn_within(c->stride, c->out_channels, most);
    good = good && (int64_t)c->out_height * c->out_width * c->stride <= h->row_size;
    return good && (int64_t)c->channels * (c->height + 2 * c->above) <= h->row_size / (c->width + 2 * c->beside) ? 1 : 0;
}

/* Of a sparse connection, whether its blocks follow each other, and all of them lie within weights and buffers. */
SNN_FUNCTION int snn_check_blocks(const snn_program *p, const snn_connection *c) {
    const snn_header *h = p->header;
    const int32_t *starts, *columns;
    int32_t i, blocks;
    const int sizes = c->block == 1 || c->block == 4 || c->block == 8 || c->block == 16 || c->block == 32;
    if (!sizes || !snn_holds(h->index_count, c->starts, (int64_t)c->inputs + 1)) {
        return 0;
    }
    starts = p->indices + c->starts;
    blocks = starts[c->inputs];
    if (starts[0] != 0 || blocks < 0 || !snn_holds(h->index_count, c->columns, blocks) ||
        !snn_holds(h->parameter_count, c->weights, (int64_t)blocks * c->block)) {
        return 0;
    }
    for (i = 0; i < c->inputs; i++) {
        if (starts[i] > starts[i + 1]) {
            return 0;
        }
    }
    columns = p->indices + c->columns;
    for (i = 0; i < blocks; i++) {
        if (!snn_within(columns[i], 0, h->row_size - c->block - c->into)) {
            return 0;
        }
    }
    return 1;
}

/* Of a connection that passes entries on, whether they are there. */
SNN_FUNCTION int snn_check_entries(const snn_program *p, const snn_connection *c) {
    int32_t k;
    if (!snn_holds(p->header->index_count, c->columns, c->outputs)) {
        return 0;
    }
    for (k = 0; k < c->outputs; k++) {
        if (!snn_within(p->indices[c->columns + k], 0, c->inputs - 1)) {
            return 0;
        }
    }
    return 1;
}

/* Whether the source's spikes are still in their slot when they are read: nobody else has used it by then. */
SNN_FUNCTION int snn_check_slot(const snn_program *p, int32_t index, const snn_connection *c) {
    const int32_t until = c->delayed ? p->header->stage_count - 1 : index;
    int32_t stage;
    for (stage = c->source + 1; stage < until; stage++) {
        if (p->stages[stage].slot == p->stages[c->source].slot) {
            return 0;
        }
    }
    return 1;
}

/* Whether a connection's ends are stages that fit it: source, port and place in z. */
SNN_FUNCTION int snn_check_ends(const snn_program *p, int32_t index, const snn_connection *c) {
    const snn_header *h = p->header;
    const snn_stage *s = p->stages + index;
    const int weighed = c->kind == SNN_LINEAR || c->kind == SNN_SPARSE;
    int good = snn_within(c->kind, SNN_LINEAR, SNN_SELECT) && snn_within(c->delayed, 0, 1);
    good = good && snn_within(c->source, 0, c->delayed ? h->stage_count - 2 : index - 1);
    good = good && (!c->delayed || weighed) && (c->into == 0 || c->into == s->second);
    good = good && c->inputs == p->stages[c->source].width && c->outputs == snn_port(s);
    if (h->neuron != SNN_SIGMA_DELTA) {
        return good && c->source == index - 1 && !c->delayed && c->kind != SNN_SELECT ? 1 : 0;
    }
    return good && (c->kind == SNN_SELECT || snn_check_slot(p, index, c)) ? 1 : 0;
}

SNN_FUNCTION int snn_check_connection(const snn_program *p, int32_t index, const snn_connection *c) {
    const snn_header *h = p->header;
    const int membranes = h->neuron != SNN_SIGMA_DELTA;
    int64_t rows = c->inputs, kept = c->delayed ? 2 * (int64_t)c->outputs : c->outputs;
    if (!snn_check_ends(p, index, c)) {
        return SNN_BAD_CONNECTION;
    }
    if (c->kind == SNN_SELECT) {
        return snn_check_entries(p, c) ? SNN_FITS : SNN_BAD_OFFSET;
    }
    if (c->kind == SNN_CONV2D) {
        if (!snn_check_geometry(h, c)) {
            return SNN_BAD_GEOMETRY;
        }
        rows = (int64_t)c->channels * c->kernel_height * c->kernel_width;
        kept = snn_sums_size(c);
        if (!membranes && h->stale < 0) {
            return SNN_BAD_HEADER;
        }
    } else if (c->kind == SNN_LINEAR && !snn_within(c->stride, c->outputs, h->row_size - c->into)) {
        return SNN_BAD_CONNECTION;
    }
    if (c->kind == SNN_SPARSE) {
        if (!snn_check_blocks(p, c)) {
            return SNN_BAD_OFFSET;
        }
    } else if (rows > INT32_MAX || !snn_holds(h->parameter_count, c->weights, rows * c->stride)) {
        return SNN_BAD_OFFSET;
    }
    return membranes || snn_holds(h->state_size, c->accumulator, kept) ? SNN_FITS : SNN_BAD_OFFSET;
}

#endif
