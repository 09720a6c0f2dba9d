/*
 * Convolutions and matrix products. Tensors are [height][width][channels] in memory. y_step are the
 * elements from a pixel of y to the next: more than its channels where y is part of wider pixels.
 */
#ifndef MCUGRAPH_CONV_H
#define MCUGRAPH_CONV_H

#include "mcugraph.h"

/*
 * y = clamp(requantize(bias + sum(x * weights)) + y_zero, low, high). The zero point of x is folded
 * into the bias. One multiplier and shift for each channel (scale_mask -1) or for all (0).
 * Row r of x stands at x + (r mod x_depth) * x_width * x_channels, of y at
 * y + (r mod y_depth) * y_width * y_step.
 */
struct mcu_conv_s8 {
    const uint8_t *weights; /* [groups] times what mcu_pixel_s8 reads, its terms in the order
                               [kernel_height][kernel_width][group_inputs] */
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
    int32_t y_step;
    int32_t y_channels;
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

/* scratch: kernel_height * kernel_width * group_inputs bytes */
void mcu_conv_s8(const struct mcu_conv_s8 *p, const int8_t *x, int8_t *y, void *scratch,
                 int32_t begin, int32_t end);

/* Each channel of x has a kernel and a channel of y. */
struct mcu_depthwise_s8 {
    const int8_t *weights; /* [kernel_height][kernel_width][channels] */
    const int32_t *bias;   /* [channels] */
    const int32_t *multiplier;
    const int8_t *shift;
    int32_t scale_mask;
    int32_t x_depth;
    int32_t y_depth;
    int32_t x_height;
    int32_t x_width;
    int32_t channels;
    int32_t y_width;
    int32_t y_step;
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

/* scratch, aligned to 4: 8 * kernel_height * kernel_width bytes */
void mcu_depthwise_s8(const struct mcu_depthwise_s8 *p, const int8_t *x, int8_t *y, void *scratch,
                      int32_t begin, int32_t end);

/* Every pixel of y is weights times a pixel of x: matrix products (one pixel a row) and 1 x 1
 * convolutions without padding. */
struct mcu_dense_s8 {
    const uint8_t *weights; /* what mcu_pixel_s8 reads */
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

void mcu_dense_s8(const struct mcu_dense_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                  int32_t end);

/* y = clamp(bias + sum(x * weights), low, high); padding is 0. */
struct mcu_conv_f32 {
    const float *weights; /* [y_channels][kernel_height][kernel_width][group_inputs] */
    const float *bias;    /* [y_channels] */
    int32_t x_depth;
    int32_t y_depth;
    int32_t x_height;
    int32_t x_width;
    int32_t x_channels;
    int32_t y_width;
    int32_t y_step;
    int32_t y_channels;
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
    float low;
    float high;
};

/* scratch, aligned for float: kernel_height * kernel_width * group_inputs floats */
void mcu_conv_f32(const struct mcu_conv_f32 *p, const float *x, float *y, void *scratch,
                  int32_t begin, int32_t end);

struct mcu_depthwise_f32 {
    const float *weights; /* [kernel_height][kernel_width][channels] */
    const float *bias;    /* [channels] */
    int32_t x_depth;
    int32_t y_depth;
    int32_t x_height;
    int32_t x_width;
    int32_t channels;
    int32_t y_width;
    int32_t y_step;
    int32_t kernel_height;
    int32_t kernel_width;
    int32_t stride_height;
    int32_t stride_width;
    int32_t dilation_height;
    int32_t dilation_width;
    int32_t pad_top;
    int32_t pad_left;
    float low;
    float high;
};

/* scratch, aligned to 4: 8 * kernel_height * kernel_width bytes */
void mcu_depthwise_f32(const struct mcu_depthwise_f32 *p, const float *x, float *y, void *scratch,
                       int32_t begin, int32_t end);

struct mcu_dense_f32 {
    const float *weights; /* [outputs][inputs] */
    const float *bias;    /* [outputs] */
    int32_t x_depth;
    int32_t y_depth;
    int32_t x_width; /* pixels a row */
    int32_t y_width;
    int32_t y_step;
    int32_t stride_height;
    int32_t stride_width;
    int32_t inputs;
    int32_t outputs;
    float low;
    float high;
};

void mcu_dense_f32(const struct mcu_dense_f32 *p, const float *x, float *y, int32_t begin,
                   int32_t end);

/*
 * Products of matrices that are both computed at run time: row r of y is row r of x times the
 * matrix [inputs][outputs] at x2 + (r / rows) * x2_step; x2_step is 0 where all share one matrix.
 */
struct mcu_matmul_s8 {
    int32_t x_depth;
    int32_t y_depth;
    int32_t rows;
    int32_t inputs;
    int32_t outputs;
    int32_t x2_step;
    int32_t x_zero;
    int32_t x2_zero;
    int32_t multiplier;
    int32_t shift;
    int32_t y_zero;
    int32_t low;
    int32_t high;
};

void mcu_matmul_s8(const struct mcu_matmul_s8 *p, const int8_t *x, const int8_t *x2, int8_t *y,
                   int32_t begin, int32_t end);

struct mcu_matmul_f32 {
    int32_t x_depth;
    int32_t y_depth;
    int32_t rows;
    int32_t inputs;
    int32_t outputs;
    int32_t x2_step;
    float low;
    float high;
};

void mcu_matmul_f32(const struct mcu_matmul_f32 *p, const float *x, const float *x2, float *y,
                    int32_t begin, int32_t end);

#endif
