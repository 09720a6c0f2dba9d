#include "mcugraph_pool.h"

/* The mean as onnxruntime computes it in float32: the same operations in the same order. */
static int32_t float_mean(const struct mcu_avgpool_ties_s8 *p, const int8_t *x, int32_t offset,
                          struct mcu_taps rows, struct mcu_taps columns, int32_t divisor)
{
    const int32_t line = p->x_width * p->channels;
    const int32_t end = p->x_depth * line;
    float sum = 0.0f;
    for (int32_t h = 0; h < rows.count; h++) {
        int32_t i = offset;
        for (int32_t w = 0; w < columns.count; w++) {
            float real = p->x_scale * (float)(x[i] - p->x_zero);
            sum = sum + real;
            i += p->dilation_width * p->channels;
        }
        offset += p->dilation_height * line;
        while (offset >= end) {
            offset -= end;
        }
    }
    sum = sum / (float)divisor;
    sum = sum / p->y_scale;
    sum = sum + (float)p->y_zero;
    sum = sum + 12582912.0f; /* 1.5 * 2^23 leaves no room for a fraction: rounds half to even */
    return (int32_t)(sum - 12582912.0f);
}

static void pool_pixel(const struct mcu_avgpool_ties_s8 *p, const int8_t *x, int8_t *y,
                       struct mcu_taps rows, struct mcu_taps columns)
{
    const int32_t line = p->x_width * p->channels;
    const int32_t taps = rows.count * columns.count;
    const int32_t entry = (p->counted != 0) ? taps : 0;
    const int32_t divisor = (p->counted != 0) ? taps : p->kernel_height * p->kernel_width;
    const int32_t unit = p->scale_down * divisor;
    const int32_t zero = taps * p->x_zero;
    int32_t offset = mcu_slot(rows.first, p->x_depth) * line + columns.first * p->channels;
    for (int32_t c = 0; c < p->channels; c++) {
        int32_t sum = mcu_pool_sum(x, offset, p->dilation_height * line, p->x_depth * line,
                                   p->dilation_width * p->channels, rows, columns) - zero;
        int32_t value = mcu_requantize(sum, p->multiplier[entry], p->shift[entry]);
        int32_t rest = 2 * (sum * p->scale_up - value * unit);
        value += p->y_zero;
        if ((rest == unit) || (rest == -unit)) {
            value = float_mean(p, x, offset, rows, columns, divisor);
        }
        y[c] = (int8_t)mcu_clamp(value, p->low, p->high);
        offset++;
    }
}

void mcu_avgpool_ties_s8(const struct mcu_avgpool_ties_s8 *p, const int8_t *x, int8_t *y,
                         int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        struct mcu_taps rows = mcu_taps(row * p->stride_height - p->pad_top, p->kernel_height,
                                        p->dilation_height, p->x_height);
        int8_t *out = &y[mcu_slot(row, p->y_depth) * p->y_width * p->y_step];
        int32_t left = -p->pad_left;
        for (int32_t w = 0; w < p->y_width; w++) {
            pool_pixel(p, x, &out[w * p->y_step], rows,
                       mcu_taps(left, p->kernel_width, p->dilation_width, p->x_width));
            left += p->stride_width;
        }
    }
}
