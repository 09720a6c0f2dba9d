/*
 * Convolutions and matrix products whose weights have few values. The weights are stored as numbers
 * of entries in a table, 4 bits each, or 2 bits, the first one in the lowest bits of a byte.
 */
#ifndef MCUGRAPH_PACKED_H
#define MCUGRAPH_PACKED_H

#include "mcugraph.h"

/* As mcu_conv_s8; the same weights give the same bytes. */
struct mcu_conv_packed_s8 {
    const uint8_t *weights; /* [groups] times [ceil(group_outputs / 4)][terms][4] numbers */
    const uint8_t *values;  /* [1 << bits], w + 128 */
    int32_t bits;           /* 4 or 2 */
    const int32_t *bias;    /* [y_channels] */
    const int32_t *multiplier;
    const int8_t *shift;
    int32_t scale_mask;
    int32_t x_depth;
    int32_t y_depth;
    int32_t x_height;
    int32_t x_width;
    int32_t x_channels;
    int32_t y_width;
    int32_t y_channels;
    int32_t y_step;
    int32_t groups;
    int32_t group_inputs;  /* x_channels / groups */
    int32_t group_outputs; /* y_channels / groups */
    int32_t kernel_height;
    int32_t kernel_width;
    int32_t stride_height;
    int32_t stride_width;
    int32_t dilation_height;
    int32_t dilation_width;
    int32_t pad_top;
    int32_t pad_left;
    int32_t x_zero;
    int32_t y_zero;
    int32_t low;
    int32_t high;
};

/* scratch: 5 * kernel_height * kernel_width * group_inputs bytes */
void mcu_conv_packed_s8(const struct mcu_conv_packed_s8 *p, const int8_t *x, int8_t *y,
                        void *scratch, int32_t begin, int32_t end);

/* As mcu_dense_s8; the same weights give the same bytes. */
struct mcu_dense_packed_s8 {
    const uint8_t *weights; /* [ceil(outputs / 4)][inputs][4] numbers */
    const uint8_t *values;  /* [1 << bits], w + 128 */
    int32_t bits;           /* 4 or 2 */
    int32_t chunk;          /* inputs whose weights are unpacked at a time */
    const int32_t *bias;    /* [outputs] */
    const int32_t *multiplier;
    const int8_t *shift;
    int32_t scale_mask;
    int32_t x_depth;
    int32_t y_depth;
    int32_t x_width; /* pixels a row */
    int32_t y_width;
    int32_t y_step;
    int32_t stride_height;
    int32_t stride_width;
    int32_t inputs;
    int32_t outputs;
    int32_t y_zero;
    int32_t low;
    int32_t high;
};

/* scratch, aligned to 4: 20 * y_width + 4 * chunk bytes */
void mcu_dense_packed_s8(const struct mcu_dense_packed_s8 *p, const int8_t *x, int8_t *y,
                         void *scratch, int32_t begin, int32_t end);

#endif
