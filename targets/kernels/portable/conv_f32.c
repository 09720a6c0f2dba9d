/* Convolution: the patch under the kernel is gathered, then multiplied with two filters at once. */
#include "mcugraph_conv.h"

/* bytes of one kernel row from input row src (NULL: padding), from input column left on */
static float *gather_row(const struct mcu_conv_f32 *p, const float *src, float *to, int32_t left)
{
    int32_t depth = p->group_inputs;
    int32_t column = left;
    for (int32_t kx = 0; kx < p->kernel_width; kx++) {
        if ((src != NULL) && (column >= 0) && (column < p->x_width)) {
            const float *from = &src[column * p->x_channels];
            for (int32_t i = 0; i < depth; i++) {
                to[i] = from[i];
            }
        } else {
            for (int32_t i = 0; i < depth; i++) {
                to[i] = 0.0f;
            }
        }
        to += depth;
        column += p->dilation_width;
    }
    return to;
}

static void gather(const struct mcu_conv_f32 *p, const float *x, float *patch, int32_t top,
                   int32_t left)
{
    int32_t row = top;
    for (int32_t ky = 0; ky < p->kernel_height; ky++) {
        const float *src = NULL;
        if ((row >= 0) && (row < p->x_height)) {
            src = &x[mcu_slot(row, p->x_depth) * p->x_width * p->x_channels];
        }
        patch = gather_row(p, src, patch, left);
        row += p->dilation_height;
    }
}

/* outputs first .. last - 1 of one pixel from its patch of terms bytes */
static void pixel(const struct mcu_conv_f32 *p, const float *patch, float *y, int32_t terms,
                  int32_t first, int32_t last)
{
    for (int32_t c = first; c < last; c += 2) {
        int32_t next = (c + 1 < last) ? c + 1 : c;
        const float *w0 = &p->weights[c * terms];
        const float *w1 = &p->weights[next * terms];
        float acc0 = p->bias[c];
        float acc1 = p->bias[next];
        for (int32_t k = 0; k < terms; k++) {
            acc0 += patch[k] * w0[k];
            acc1 += patch[k] * w1[k];
        }
        y[c] = mcu_clamp_f32(acc0, p->low, p->high);
        y[next] = mcu_clamp_f32(acc1, p->low, p->high);
    }
}

void mcu_conv_f32(const struct mcu_conv_f32 *p, const float *x, float *y, void *scratch,
                 int32_t begin, int32_t end)
{
    float *patch = scratch;
    int32_t depth = p->group_inputs;
    int32_t terms = p->kernel_height * p->kernel_width * depth;
    int32_t outputs = p->group_outputs;
    for (int32_t oy = begin; oy < end; oy++) {
        int32_t top = oy * p->stride_height - p->pad_top;
        int32_t left = -p->pad_left;
        int32_t at = 0;
        float *to = &y[mcu_slot(oy, p->y_depth) * p->y_width * p->y_step];
        for (int32_t ox = 0; ox < p->y_width; ox++) {
            for (int32_t g = 0; g < p->groups; g++) {
                gather(p, &x[g * depth], patch, top, left);
                pixel(p, patch, &to[at], terms, g * outputs, (g + 1) * outputs);
            }
            at += p->y_step;
            left += p->stride_width;
        }
    }
}
