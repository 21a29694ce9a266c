/* Whether a program is one: every offset, length and number that the decisions rely on. Read nothing before it. */
#ifndef SNN_CHECK_H
#define SNN_CHECK_H

#include "program.h"
#include "convolution.h"

enum snn_fault {
    SNN_FITS, SNN_BAD_HEADER, SNN_BAD_STAGE, SNN_BAD_CONNECTION, SNN_BAD_GEOMETRY, SNN_BAD_OFFSET, SNN_BAD_NUMBER
};

#define SNN_MOST_STAGES 4096
#define SNN_MOST_ROW_SIZE (1 << 27)

SNN_FUNCTION int snn_within(int32_t value, int32_t least, int32_t most) {
    return least <= value && value <= most ? 1 : 0;
}

/* Whether `length` elements from `offset` on lie within `size`. */
SNN_FUNCTION int snn_holds(int32_t size, int32_t offset, int64_t length) {
    return offset >= 0 && length >= 0 && offset + length <= size ? 1 : 0;
}

SNN_FUNCTION int snn_holds_or_none(int32_t size, int32_t offset, int64_t length) {
    return offset == -1 || snn_holds(size, offset, length) ? 1 : 0;
}

/* Whether all of n numbers are within [least, most]; NaN is not. */
SNN_FUNCTION int snn_all_within(const float *values, int32_t n, float least, float most) {
    int32_t j;
    for (j = 0; j < n; j++) {
        if (!(values[j] >= least && values[j] <= most)) {
            return 0;
        }
    }
    return 1;
}

SNN_FUNCTION int snn_check_header(const snn_header *h) {
    int good = snn_within(h->neuron, SNN_SIGMA_DELTA, SNN_MT) && snn_within(h->stage_count, 2, SNN_MOST_STAGES);
    good = good && snn_within(h->connection_count, 1, 16 * SNN_MOST_STAGES) && h->parameter_count >= 0;
    good = good && h->index_count >= 0 && h->first_spiking == (h->neuron == SNN_SIGMA_DELTA ? 0 : 1);
    good = good && snn_within(h->slots, 1, SNN_MOST_STAGES) && snn_within(h->head_kind, 0, SNN_HEAD_ARGMAX);
    good = good && snn_within(h->row_size, SNN_LANES, SNN_MOST_ROW_SIZE) && h->row_size % SNN_LANES == 0;
    good = good && h->state_size >= 0 && snn_within(h->timesteps, 1, 1 << 20) && h->macs >= 0;
    if (!good) {
        return 0;
    }
    if (h->neuron == SNN_SIGMA_DELTA) {
        good = snn_within(h->power_count, 2, 4096) && snn_within(h->rederive_after, 1, INT32_MAX);
        good = good && snn_holds(h->state_size, h->age, 1) && snn_holds_or_none(h->state_size, h->stale, 1);
        return good && snn_holds(h->parameter_count, h->powers, h->power_count) ? 1 : 0;
    }
    good = snn_within(h->timesteps, 1, 4096) && snn_within(h->levels, 1, 32);
    if (h->calibrates) {
        good = good && h->neuron == SNN_IF && !h->differential && snn_within(h->simulation_steps, 1, 4096);
        good = good && snn_within(h->least_iterations, 0, 64);
        good = good && snn_within(h->most_iterations, h->least_iterations, 64);
    }
    if (h->adaptive) {
        good = good && h->calibrates && snn_holds(h->state_size, h->extra, 1);
    }
    return good ? 1 : 0;
}

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
        if (!snn_within(columns[i], 0, h->row_size - c->block)) {
            return 0;
        }
    }
    return 1;
}

SNN_FUNCTION int snn_check_connection(const snn_program *p, int32_t index, const snn_connection *c) {
    const snn_header *h = p->header;
    const int membranes = h->neuron != SNN_SIGMA_DELTA;
    int64_t rows = c->inputs, kept = c->outputs;
    if (!snn_within(c->kind, SNN_LINEAR, SNN_SPARSE) || !snn_within(c->source, 0, index - 1)) {
        return SNN_BAD_CONNECTION;
    }
    if (c->inputs != p->stages[c->source].width || c->outputs != p->stages[index].width) {
        return SNN_BAD_CONNECTION;
    }
    if (membranes && c->source != index - 1) {
        return SNN_BAD_CONNECTION;
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
    } else if (c->kind == SNN_LINEAR && !snn_within(c->stride, c->outputs, h->row_size)) {
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

SNN_FUNCTION int snn_check_neurons(const snn_program *p, const snn_stage *s) {
    const snn_header *h = p->header;
    const float largest = snn_from_bits(SNN_INFINITY_BITS), *q = p->parameters + s->neurons, *unit = q + s->width;
    int32_t j;
    if (h->neuron != SNN_SIGMA_DELTA) {
        return snn_all_within(q, s->width, 0.0f, FLT_MAX) ? SNN_FITS : SNN_BAD_NUMBER;
    }
    if (!snn_all_within(q, s->width, 0.0f, FLT_MAX) || !snn_all_within(unit, s->width, FLT_MIN / 8388608.0f, largest)) {
        return SNN_BAD_NUMBER;
    }
    for (j = 0; h->doubling && j < s->width; j++) {
        const int dead = q[j] == 0.0f && unit[j] == largest;
        const int normal = q[j] > 7.8886091e-31f && q[j] < 1.2089258e24f && unit[j] >= q[j] * 0.5f;
        if (!dead && !normal) {
            return SNN_BAD_NUMBER;
        }
    }
    return SNN_FITS;
}

SNN_FUNCTION int snn_check_stage(const snn_program *p, int32_t index) {
    const snn_header *h = p->header;
    const snn_stage *s = p->stages + index;
    const int sigma_delta = h->neuron == SNN_SIGMA_DELTA, last = index == h->stage_count - 1;
    const int spikes = !last && index >= h->first_spiking;
    int32_t i;
    if (!snn_within(s->width, 1, h->row_size - SNN_LANES) || !snn_within(s->activation, 0, SNN_NO_ACTIVATION)) {
        return SNN_BAD_STAGE;
    }
    if (s->connection_count < 0 || !snn_holds(h->connection_count, s->first_connection, s->connection_count)) {
        return SNN_BAD_STAGE;
    }
    if (index == 0 ? s->connection_count != 0 : s->connection_count < 1 || (!sigma_delta && s->connection_count != 1)) {
        return SNN_BAD_STAGE;
    }
    if (s->activation == SNN_QCFS && !(s->activation_levels >= 1.0f && s->activation_levels <= 65536.0f)) {
        return SNN_BAD_NUMBER;
    }
    if (index > 0 && !snn_holds(h->parameter_count, s->bias, s->width)) {
        return SNN_BAD_OFFSET;
    }
    if (spikes) {
        const int64_t vectors = sigma_delta ? 3 : 1;
        int good = snn_holds(h->parameter_count, s->neurons, vectors * s->width);
        good = good && snn_holds(h->state_size, s->memory, s->width);
        good = good && snn_holds_or_none(h->parameter_count, s->offset, s->width);
        good = good && snn_holds_or_none(h->parameter_count, s->fan_out, s->width) && s->uniform_fan_out >= 0;
        if (!good) {
            return SNN_BAD_OFFSET;
        }
        if (s->fan_out >= 0 && !snn_all_within(p->parameters + s->fan_out, s->width, 0.0f, 2147483520.0f)) {
            return SNN_BAD_NUMBER;
        }
        if (sigma_delta && !(snn_within(s->digits, 1, 64) && snn_within(s->slot, 0, h->slots - 1))) {
            return SNN_BAD_STAGE;
        }
        if (sigma_delta && !snn_holds_or_none(h->state_size, s->residual, s->width)) {
            return SNN_BAD_OFFSET;
        }
        if (sigma_delta && s->residual >= 0 && !(s->alpha >= 0.0f && s->alpha <= 1.0f)) {
            return SNN_BAD_NUMBER;
        }
        if (h->adaptive && !snn_within(s->levels, 1, 65536)) {
            return SNN_BAD_NUMBER;
        }
        if (snn_check_neurons(p, s) != SNN_FITS) {
            return SNN_BAD_NUMBER;
        }
    }
    for (i = 0; i < s->connection_count; i++) {
        const int fault = snn_check_connection(p, index, p->connections + s->first_connection + i);
        if (fault != SNN_FITS) {
            return fault;
        }
    }
    return SNN_FITS;
}

/* Of argmax heads, the numbers of the discrete actions: 0, …, 0, 1, …, 1, … up to the last of `action_size`. */
SNN_FUNCTION int snn_check_choices(const snn_program *p, int32_t outputs) {
    const float *number = p->parameters + p->header->head;
    int32_t k, seen = 0;
    for (k = 0; k < outputs; k++) {
        if (number[k] == (float)(seen + 1) && k > 0) {
            seen++;
        }
        if (!(number[k] == (float)seen)) {
            return 0;
        }
    }
    return seen + 1 == p->header->action_size;
}

/* SNN_FITS, or what is wrong. The four lengths are those of the blocks that `p` points to. */
SNN_FUNCTION int snn_check(const snn_program *p, int64_t stages, int64_t connections, int64_t parameters,
                           int64_t indices) {
    const snn_header *h = p->header;
    int32_t index, outputs;
    if (!snn_check_header(h)) {
        return SNN_BAD_HEADER;
    }
    if (h->stage_count != stages || h->connection_count != connections || h->parameter_count != parameters ||
        h->index_count != indices) {
        return SNN_BAD_HEADER;
    }
    for (index = 0; index < h->stage_count; index++) {
        const int fault = snn_check_stage(p, index);
        if (fault != SNN_FITS) {
            return fault;
        }
    }
    outputs = p->stages[h->stage_count - 1].width;
    if (h->head_kind == SNN_HEAD_ARGMAX ? !snn_within(h->action_size, 1, outputs) : h->action_size != outputs) {
        return SNN_BAD_HEADER;
    }
    if (!snn_holds(h->parameter_count, h->head, 4 * (int64_t)outputs) ||
        !snn_holds_or_none(h->parameter_count, h->normaliser, 2 * (int64_t)p->stages[0].width)) {
        return SNN_BAD_OFFSET;
    }
    if (h->head_kind == SNN_HEAD_ARGMAX && !snn_check_choices(p, outputs)) {
        return SNN_BAD_NUMBER;
    }
    if (h->neuron == SNN_SIGMA_DELTA &&
        !snn_all_within(p->parameters + h->powers, h->power_count, 1.0f, FLT_MAX)) {
        return SNN_BAD_NUMBER;
    }
    return SNN_FITS;
}

#endif
