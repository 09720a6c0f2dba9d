/* Pools: one value from the elements of a channel under a window; y_step as in mcugraph_conv.h. */
#ifndef MCUGRAPH_POOL_H
#define MCUGRAPH_POOL_H

#include "mcugraph.h"

/* The part of a window that lies inside the input, along one axis. */
struct mcu_taps {
    int32_t first; /* place of the first tap in the input */
    int32_t count;
};

static inline struct mcu_taps mcu_taps(int32_t first, int32_t count, int32_t step, int32_t size)
{
    struct mcu_taps taps;
    int32_t last = first + (count - 1) * step;
    while (first < 0) {
        first += step;
        count--;
    }
    while (last >= size) {
        last -= step;
        count--;
    }
    taps.first = first;
    taps.count = count;
    return taps;
}

/* Sum of x - x_zero over taps; offset: the first tap's element, row: elements from row to row. */
static inline int32_t mcu_pool_sum(const int8_t *x, int32_t offset, int32_t row, int32_t end,
                                   int32_t pixel, struct mcu_taps rows, struct mcu_taps columns)
{
    int32_t sum = 0;
    for (int32_t h = 0; h < rows.count; h++) {
        int32_t i = offset;
        for (int32_t w = 0; w < columns.count; w++) {
            sum += x[i];
            i += pixel;
        }
        offset += row;
        while (offset >= end) { /* the ring's end */
            offset -= end;
        }
    }
    return sum;
}

/*
 * y = clamp(requantize(sum of x - x_zero) + y_zero) over the taps inside the input. multiplier and
 * shift stand for x_scale / (y_scale * divisor): one entry, or with counted one for each number of
 * taps. The caller has made sure that no sum is a tie.
 */
struct mcu_avgpool_s8 {
    int32_t x_height;
    int32_t x_width;
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
    int32_t channels;
    int32_t x_depth;
    int32_t y_depth;
    int32_t x_zero;
    int32_t y_zero;
    int32_t low;
    int32_t high;
    int32_t counted;
    const int32_t *multiplier;
    const int8_t *shift;
};

/*
 * The same where a mean can lie half way between two results: when x_scale / y_scale is
 * scale_up / scale_down. Such a tie is decided as onnxruntime decides it, by its float32
 * arithmetic; all other results are integer arithmetic.
 */
struct mcu_avgpool_ties_s8 {
    int32_t x_height;
    int32_t x_width;
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
    int32_t channels;
    int32_t x_depth;
    int32_t y_depth;
    int32_t x_zero;
    int32_t y_zero;
    int32_t low;
    int32_t high;
    int32_t counted;
    const int32_t *multiplier;
    const int8_t *shift;
    int32_t scale_up;
    int32_t scale_down;
    float x_scale;
    float y_scale;
};

/*
 * Mean over the whole image: begin to end count rows of x, in any order; the first call of an image
 * begins at 0, the last ends at x_height and writes y. ties (or NULL): a mean half way between two
 * results k and k + 1, zero point included, becomes k + bit k + 128; x_scale / (y_scale * pixels)
 * is scale_up / scale_down.
 */
struct mcu_gap_s8 {
    int32_t x_height;
    int32_t x_width;
    int32_t x_depth;
    int32_t channels;
    int32_t x_zero;
    int32_t y_zero;
    int32_t low;
    int32_t high;
    int32_t multiplier;
    int32_t shift;
    const uint32_t *ties;
    int32_t scale_up;
    int32_t scale_down;
};

/* y = max over the taps inside the input, then table[y + 128] where table is not NULL. */
struct mcu_maxpool_s8 {
    int32_t x_height;
    int32_t x_width;
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
    int32_t channels;
    int32_t x_depth;
    int32_t y_depth;
    const int8_t *table;
};

/*
 * y = clamp(sum over the taps inside the input / divisor): their number where counted is 1, else
 * the taps inside x_height + pad_top + pad_bottom rows and likewise columns.
 */
struct mcu_avgpool_f32 {
    int32_t x_height;
    int32_t x_width;
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
    int32_t channels;
    int32_t x_depth;
    int32_t y_depth;
    int32_t pad_bottom;
    int32_t pad_right;
    int32_t counted;
    float low;
    float high;
};

struct mcu_maxpool_f32 {
    int32_t x_height;
    int32_t x_width;
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
    int32_t channels;
    int32_t x_depth;
    int32_t y_depth;
};

void mcu_avgpool_s8(const struct mcu_avgpool_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                    int32_t end);
void mcu_avgpool_ties_s8(const struct mcu_avgpool_ties_s8 *p, const int8_t *x, int8_t *y,
                         int32_t begin, int32_t end);
/* scratch: channels sums of 32 bits, which live from the first call to the last. */
void mcu_gap_s8(const struct mcu_gap_s8 *p, const int8_t *x, int8_t *y, void *scratch,
                int32_t begin, int32_t end);
void mcu_maxpool_s8(const struct mcu_maxpool_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                    int32_t end);
void mcu_avgpool_f32(const struct mcu_avgpool_f32 *p, const float *x, float *y, int32_t begin,
                     int32_t end);
void mcu_maxpool_f32(const struct mcu_maxpool_f32 *p, const float *x, float *y, int32_t begin,
                     int32_t end);

#endif
