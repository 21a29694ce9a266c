/* A program is data: a header, a record per stage, a record per connection, one block of parameters and one of indices.
 *
 * Stage 0 is the normalised observation, the last stage feeds the head, those between are hidden. A stage has a list of
 * connections, each a linear map of what another stage sent: one before it in this decision, or any stage in the
 * decision before. What they give adds up in the stage's ports, side by side in one vector z, of which its cell makes
 * the stage's values. In a chain every stage reads the one before, through one port. Offsets named here count floats of
 * `parameters`, or of a row's state where it says so; −1 is "none". `snn_check` refuses what does not fit together;
 * nothing else tests it.
 */
#ifndef SNN_PROGRAM_H
#define SNN_PROGRAM_H

#include "platform.h"

enum snn_neuron { SNN_SIGMA_DELTA, SNN_IF, SNN_SNM, SNN_MT };
enum snn_connection_kind { SNN_LINEAR, SNN_CONV2D, SNN_SPARSE, SNN_SELECT };
enum snn_cell { SNN_ELEMENTWISE, SNN_PRODUCT, SNN_GRU, SNN_LSTM };
enum snn_norm_kind { SNN_NO_NORM, SNN_LAYER_NORM, SNN_RMS_NORM, SNN_L2_NORM };
enum snn_activation { SNN_RELU, SNN_TANH, SNN_ELU, SNN_SILU, SNN_LEAKY_RELU, SNN_QCFS, SNN_SOFTPLUS, SNN_SOFTSIGN,
                      SNN_MISH, SNN_GELU, SNN_GELU_TANH, SNN_CLIP, SNN_LOG_SOFTPLUS, SNN_HARDSWISH,
                      SNN_NO_ACTIVATION };
enum snn_head { SNN_HEAD_TANH, SNN_HEAD_CLIP, SNN_HEAD_ARGMAX };

/* A row's counts: spikes of every spiking stage, neurons that spiked of every spiking stage, then these, then the sums
 * since the row's reset: spikes stage by stage, then what stands before SNN_DECISIONS. An event is a neuron that spiked
 * in the decision, counted by its fan-out. */
enum snn_count { SNN_EVENTS, SNN_OPERATIONS, SNN_MACS, SNN_ITERATIONS, SNN_ERRORS, SNN_DECISIONS, SNN_SUMS };

#define SNN_LANES 16        /* rows of weights and buffers are padded to whole vectors, but where memory is short */
#define SNN_WORK_ROWS 12    /* vectors of `row_size` floats of scratch */
#define SNN_LARGEST_OBSERVATION 1e30f
#define SNN_FAR 1e30f       /* calibration: no spike, or no silent step, so far */

typedef struct {
    int64_t macs;            /* analog multiply-accumulates: membranes' first layer; sigma-delta: norms, products, gates */
    int32_t neuron, stage_count, connection_count, parameter_count;
    int32_t first_spiking;   /* 0: the observation is sent as spikes, 1: it is analog */
    int32_t slots;           /* stages whose spikes are kept at the same time */
    int32_t row_size;        /* floats of a buffer for any stage's neurons, ports, sums or image */
    int32_t action_size;
    int32_t state_size;      /* floats of a row's state */
    int32_t normaliser;      /* mean, then scale */
    int32_t head_kind, head; /* low, high, scale, offset */
    int32_t timesteps;
    int32_t powers, power_count, doubling;            /* sigma-delta: β⁰, β¹, …; whether β is 2 and all is normal */
    int32_t rederive_after, age, stale;               /* sigma-delta: in decisions; in the state */
    int32_t differential, levels, bounded, extra;     /* membranes: coding; MT's n; residual; extra iterations' state */
    int32_t calibrates, simulation_steps, literal, least_iterations, most_iterations, adaptive, error_tolerance;
    int32_t index_count;
    float clip, pre_clip;
    float start_share, bound, epsilon;                /* membranes: v[0] and c in thresholds; calibration's ε */
} snn_header;

typedef struct {
    int32_t width, first_connection, connection_count;
    int32_t cell;
    int32_t z_width, second; /* all ports; where in z the second one begins, of products and GRUs */
    int32_t bias;            /* (z_width,) */
    int32_t activation, other_activation; /* of the first port; of a product's second */
    int32_t norm, norm_weight;            /* kind; weight and bias, (width,) each */
    int32_t remembered;      /* in the state: what a GRU or an LSTM remembers, less what it starts from */
    int32_t cell_start;      /* what it starts from, (width,) */
    int32_t neurons;         /* sigma-delta: quantum, unit k·q, γ; membranes: θ; (width,) each */
    int32_t offset;          /* c, (width,) */
    int32_t digits, slot;    /* slot: where its spikes stay until all have read them */
    int32_t memory;          /* in the state: m, or the residual */
    int32_t residual;        /* in the state: sigma-delta's r, where the stage carries it */
    int32_t fan_out;         /* (width,) synapses per neuron, where they differ */
    int32_t uniform_fan_out;
    int32_t levels;          /* of the shadow network */
    float parameter, activation_levels, alpha;
    float other_parameter, other_levels, epsilon;
} snn_stage;

typedef struct {
    int32_t kind, source, inputs, outputs;
    int32_t weights;         /* linear (inputs, stride); convolution (channels, kernel height, kernel width, stride);
                                sparse (blocks, block) */
    int32_t stride;          /* outputs or output channels, padded */
    int32_t accumulator;     /* in the state: what was received and is kept */
    int32_t into;            /* where in z its outputs begin */
    int32_t delayed;         /* whether it reads the decision before; then it keeps two sums, of γ = 1 and of γ = 0 */
    int32_t channels, height, width, kernel_height, kernel_width, down, right, above, beside;
    int32_t out_channels, out_height, out_width;
    int32_t in_order;        /* linear: whether every spike is added by itself */
    int32_t block, starts, columns; /* sparse: outputs per block; in the indices, (inputs + 1,) and (blocks,); select:
                                       in the indices, `columns`, (outputs,) the entries taken */
} snn_connection;

typedef struct {
    const snn_header *header;
    const snn_stage *stages;
    const snn_connection *connections;
    const float *parameters;
    const int32_t *indices;
} snn_program;

/* Scratch for a block of rows; a train is one list of spikes. */
typedef struct {
    float *work;             /* SNN_WORK_ROWS vectors */
    float *values;           /* two vectors per row */
    float *totals;           /* a vector per train */
    float *sizes;            /* a vector per train: what each listed neuron sent */
    int32_t *indices;        /* a vector per train: the neurons, in rising order */
    int32_t *listed;         /* per train: how many */
    int32_t *anew;           /* per row: whether this decision derives its kept sums from the memory */
} snn_workspace;

/* Trains that a row needs. */
SNN_FUNCTION int32_t snn_trains_per_row(const snn_header *header) {
    return header->neuron == SNN_SIGMA_DELTA ? 2 * header->slots : header->timesteps;
}

SNN_FUNCTION int32_t snn_spiking_stages(const snn_header *header) {
    return header->stage_count - 1 - header->first_spiking;
}

/* Numbers in a row of counts. */
SNN_FUNCTION int32_t snn_count_size(const snn_header *header) {
    return 3 * snn_spiking_stages(header) + SNN_SUMS + SNN_DECISIONS;
}

/* Floats of a port of a stage's cell. */
SNN_FUNCTION int64_t snn_port(const snn_stage *stage) {
    const int64_t width = stage->width;
    return stage->cell == SNN_GRU ? 3 * width : stage->cell == SNN_LSTM ? 4 * width : width;
}

/* Columns of a linear connection's weights that are worked through: whole vectors, where the rows have room. */
SNN_FUNCTION int32_t snn_columns(const snn_connection *c) {
    const int32_t whole = (c->outputs + SNN_LANES - 1) / SNN_LANES * SNN_LANES;
    return whole < c->stride ? whole : c->stride;
}

SNN_ALWAYS float *snn_vector(float *block, int32_t index, int32_t row_size) {
    return block + (ptrdiff_t)index * row_size;
}

#endif
