/* A convolution of spikes: each adds its kernel to the outputs that it reaches, and to no others.
 *
 * Sums lie position by position, (height, width, stride), the output channels of a position side by side; weights
 * (channels, kernel height, kernel width, stride). Neurons keep the order (channels, height, width). A train that
 * holds so many spikes that a list no longer pays is convolved as an image.
 */
#ifndef SNN_CONVOLUTION_H
#define SNN_CONVOLUTION_H

#include "program.h"

#define SNN_DENSE_FROM 4 /* as an image where more than one in so many inputs spiked: faster from there on, by measurement */
#define SNN_POSITIONS 6   /* output positions whose sums are kept in registers at once */

SNN_ALWAYS int32_t snn_sums_size(const snn_connection *c) { return c->out_height * c->out_width * c->stride; }

/* The first output whose window covers a pixel at `reach`, padding included. */
SNN_ALWAYS int32_t snn_first_output(int32_t reach, int32_t kernel, int32_t stride) {
    return reach < kernel ? 0 : (reach - kernel + stride) / stride;
}

SNN_ALWAYS int32_t snn_last_output(int32_t reach, int32_t stride, int32_t outputs) {
    return reach / stride < outputs ? reach / stride : outputs - 1;
}

/* sums += W ∗ the spikes of a list. */
SNN_FUNCTION void snn_spread(const snn_connection *c, const float *weights, const int32_t *index, const float *sizes,
                             int32_t count, float *SNN_RESTRICT sums) {
    int32_t channel = 0, line = 0, ahead = c->width, i, out_x, out_y, k;
    for (i = 0; i < count; i++) {
        const float size = sizes[i];
        int32_t x, y;
        while (index[i] >= ahead) { /* neurons come in rising order: no division */
            line += 1;
            ahead += c->width;
            if (line == c->height) {
                line = 0;
                channel += 1;
            }
        }
        y = line + c->above;
        x = index[i] - ahead + c->width + c->beside;
        for (out_y = snn_first_output(y, c->kernel_height, c->down); out_y <= snn_last_output(y, c->down, c->out_height);
             out_y++) {
            const int32_t row = (channel * c->kernel_height + y - out_y * c->down) * c->kernel_width + x;
            for (out_x = snn_first_output(x, c->kernel_width, c->right);
                 out_x <= snn_last_output(x, c->right, c->out_width); out_x++) {
                const float *SNN_RESTRICT kernel = weights + (ptrdiff_t)(row - out_x * c->right) * c->stride;
                float *SNN_RESTRICT sum = sums + (ptrdiff_t)(out_y * c->out_width + out_x) * c->stride;
                for (k = 0; k < c->stride; k++) {
                    sum[k] += size * kernel[k];
                }
            }
        }
    }
}

/* The spikes of a list as an image with its padding. */
SNN_FUNCTION void snn_draw(const snn_connection *c, const int32_t *index, const float *sizes, int32_t count,
                           float *SNN_RESTRICT image) {
    const int32_t pitch = c->width + 2 * c->beside, height = c->height + 2 * c->above;
    int32_t line = 0, ahead = c->width, place = c->above * pitch + c->beside, i, k;
    for (k = 0; k < c->channels * height * pitch; k++) {
        image[k] = 0.0f;
    }
    for (i = 0; i < count; i++) {
        while (index[i] >= ahead) {
            line += 1;
            ahead += c->width;
            place += pitch;
            if (line == c->height) {
                line = 0;
                place += 2 * c->above * pitch;
            }
        }
        image[place + index[i] - ahead + c->width] = sizes[i];
    }
}

/* The sums of `positions` neighbouring outputs grow by their windows' products, `columns` channels of them. */
SNN_ALWAYS void snn_add_windows(const snn_connection *c, const float *corner, const float *kernel, float *sums,
                                int32_t positions, int32_t columns) {
    const int32_t pitch = c->width + 2 * c->beside;
    const ptrdiff_t plane = (ptrdiff_t)pitch * (c->height + 2 * c->above);
    float kept[SNN_POSITIONS][SNN_LANES];
    int32_t channel, y, x, p, k;
    for (p = 0; p < positions; p++) {
        for (k = 0; k < columns; k++) {
            kept[p][k] = sums[(ptrdiff_t)p * c->stride + k];
        }
    }
    for (channel = 0; channel < c->channels; channel++) {
        for (y = 0; y < c->kernel_height; y++) {
            for (x = 0; x < c->kernel_width; x++) {
                const float *pixel = corner + channel * plane + (ptrdiff_t)y * pitch + x;
                for (p = 0; p < positions; p++) {
                    const float value = pixel[(ptrdiff_t)p * c->right];
                    for (k = 0; k < columns; k++) {
                        kept[p][k] += value * kernel[k];
                    }
                }
                kernel += c->stride;
            }
        }
    }
    for (p = 0; p < positions; p++) {
        for (k = 0; k < columns; k++) {
            sums[(ptrdiff_t)p * c->stride + k] = kept[p][k];
        }
    }
}

#if defined(SNN_VECTOR)
/* As `snn_add_windows`, for SNN_POSITIONS outputs and SNN_LANES channels: their sums stay in registers. */
SNN_FUNCTION void snn_add_wide_windows(const snn_connection *c, const float *corner, const float *kernel, float *sums) {
    const int32_t pitch = c->width + 2 * c->beside, apart = c->right;
    const ptrdiff_t plane = (ptrdiff_t)pitch * (c->height + 2 * c->above);
    snn_floats kept[SNN_POSITIONS][SNN_LANES / SNN_VECTOR];
    int32_t channel, y, x, p, k;
    for (p = 0; p < SNN_POSITIONS; p++) {
        for (k = 0; k < SNN_LANES / SNN_VECTOR; k++) {
            kept[p][k] = ((const snn_floats *)(const void *)(sums + (ptrdiff_t)p * c->stride))[k];
        }
    }
    for (channel = 0; channel < c->channels; channel++) {
        for (y = 0; y < c->kernel_height; y++) {
            const float *pixel = corner + channel * plane + (ptrdiff_t)y * pitch;
            for (x = 0; x < c->kernel_width; x++, pixel++) {
                const snn_floats *row = (const snn_floats *)(const void *)kernel;
                for (p = 0; p < SNN_POSITIONS; p++) {
                    for (k = 0; k < SNN_LANES / SNN_VECTOR; k++) {
                        kept[p][k] += pixel[p * apart] * row[k];
                    }
                }
                kernel += c->stride;
            }
        }
    }
    for (p = 0; p < SNN_POSITIONS; p++) {
        for (k = 0; k < SNN_LANES / SNN_VECTOR; k++) {
            ((snn_floats *)(void *)(sums + (ptrdiff_t)p * c->stride))[k] = kept[p][k];
        }
    }
}
#endif

/* sums += W ∗ image, whole vectors of channels; what is left of the channels one by one. */
SNN_FUNCTION void snn_slide(const snn_connection *c, const float *weights, const float *image, float *sums) {
    const int32_t pitch = c->width + 2 * c->beside;
    int32_t first, out_y, out_x, p;
    for (first = 0; first < c->stride; first += SNN_LANES) {
        const int32_t columns = c->stride - first < SNN_LANES ? c->stride - first : SNN_LANES;
        for (out_y = 0; out_y < c->out_height; out_y++) {
            const float *line = image + (ptrdiff_t)out_y * c->down * pitch;
            float *sum = sums + (ptrdiff_t)out_y * c->out_width * c->stride + first;
            out_x = 0;
            for (; columns == SNN_LANES && out_x + SNN_POSITIONS <= c->out_width; out_x += SNN_POSITIONS) {
#if defined(SNN_VECTOR)
                snn_add_wide_windows(c, line + out_x * c->right, weights + first, sum + (ptrdiff_t)out_x * c->stride);
#else
                snn_add_windows(c, line + out_x * c->right, weights + first, sum + (ptrdiff_t)out_x * c->stride,
                                SNN_POSITIONS, SNN_LANES);
#endif
            }
            for (p = out_x; p < c->out_width; p++) {
                snn_add_windows(c, line + p * c->right, weights + first, sum + (ptrdiff_t)p * c->stride, 1, columns);
            }
        }
    }
}

/* sums += W ∗ what a train holds; `image` is scratch. */
SNN_FUNCTION void snn_convolve(const snn_connection *c, const float *weights, const int32_t *index, const float *sizes,
                               int32_t count, float *image, float *sums) {
    if ((int64_t)count * SNN_DENSE_FROM > c->inputs) {
        snn_draw(c, index, sizes, count, image);
        snn_slide(c, weights, image, sums);
    } else {
        snn_spread(c, weights, index, sizes, count, sums);
    }
}

/* z (channels·height·width) += the sums, put in the neurons' order. */
SNN_FUNCTION void snn_add_channels(const snn_connection *c, const float *sums, float *z) {
    const int32_t positions = c->out_height * c->out_width;
    int32_t channel, position;
    for (channel = 0; channel < c->out_channels; channel++) {
        for (position = 0; position < positions; position++) {
            z[(ptrdiff_t)channel * positions + position] += sums[(ptrdiff_t)position * c->stride + channel];
        }
    }
}

#endif
