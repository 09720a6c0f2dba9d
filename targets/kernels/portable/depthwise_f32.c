/* Depthwise convolution: a list of the taps that lie in the input, then each channel. */
#include "mcugraph_conv.h"

/* Where channel 0 of an input pixel and of a weight stand. */
struct tap {
    int32_t x;
    int32_t w;
};

/* The taps of one pixel that lie in the input. */
struct taps {
    struct tap *first;
    struct tap *inside;
    int32_t base; /* the input column that x counts from */
};

static void find_taps(const struct mcu_depthwise_f32 *p, struct taps *taps, int32_t top,
                      int32_t left)
{
    struct tap *inside = taps->first;
    int32_t base = taps->base;
    int32_t w = 0;
    for (int32_t ky = 0; ky < p->kernel_height; ky++) {
        int32_t row = top + ky * p->dilation_height;
        int32_t column = left;
        int valid = (row >= 0) && (row < p->x_height);
        int32_t start = valid ? mcu_slot(row, p->x_depth) * p->x_width - base : 0;
        MCU_ROLLED
        for (int32_t kx = 0; kx < p->kernel_width; kx++) {
            if (valid && (column >= 0) && (column < p->x_width)) {
                inside->x = (start + column) * p->channels;
                inside->w = w;
                inside++;
            }
            w += p->channels;
            column += p->dilation_width;
        }
    }
    taps->inside = inside;
}

static float sum_inside(const struct tap *tap, const struct tap *end, const float *x,
                        const float *w)
{
    float sum = 0.0f;
    MCU_ROLLED
    while (tap != end) {
        sum += x[tap->x] * w[tap->w];
        tap++;
    }
    return sum;
}

static void pixel(const struct mcu_depthwise_f32 *p, const struct taps *taps, const float *x,
                  float *y)
{
    for (int32_t c = 0; c < p->channels; c++) {
        float sum = sum_inside(taps->first, taps->inside, &x[c], &p->weights[c]);
        y[c] = mcu_clamp_f32(p->bias[c] + sum, p->low, p->high);
    }
}

static void one_row(const struct mcu_depthwise_f32 *p, const float *x, float *y,
                    struct taps *taps, int32_t top)
{
    int32_t left = -p->pad_left;
    int32_t span = (p->kernel_width - 1) * p->dilation_width;
    int32_t at = 0;
    int known = 0;
    for (int32_t ox = 0; ox < p->y_width; ox++) {
        int whole = (left >= 0) && (left + span < p->x_width);
        taps->base = whole ? left : 0;
        if (!(whole && known)) {
            find_taps(p, taps, top, left);
        }
        known = whole;
        pixel(p, taps, &x[taps->base * p->channels], &y[at]);
        at += p->y_step;
        left += p->stride_width;
    }
}

void mcu_depthwise_f32(const struct mcu_depthwise_f32 *p, const float *x, float *y, void *scratch,
                      int32_t begin, int32_t end)
{
    struct tap *list = scratch;
    struct taps taps = {list, list, 0};
    for (int32_t row = begin; row < end; row++) {
        int32_t slot = mcu_slot(row, p->y_depth);
        int32_t top = row * p->stride_height - p->pad_top;
        one_row(p, x, &y[slot * p->y_width * p->y_step], &taps, top);
    }
}
