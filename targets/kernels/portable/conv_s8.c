/* Convolution: the patch under the kernel is gathered, then multiplied. */
#include "mcugraph_conv.h"
#include "mcugraph_dot.h"

#define MCU_WINDOW struct mcu_conv_s8
#include "mcugraph_gather.h"

void mcu_conv_s8(const struct mcu_conv_s8 *p, const int8_t *x, int8_t *y, void *scratch,
                 int32_t begin, int32_t end)
{
    int8_t *patch = scratch;
    int32_t depth = p->group_inputs;
    int32_t terms = p->kernel_height * p->kernel_width * depth;
    int32_t outputs = p->group_outputs;
    int32_t step = terms * ((outputs + 3) & ~(int32_t)3);
    const struct mcu_outputs_s8 scaling = {p->bias,   p->multiplier, p->shift, p->scale_mask,
                                           p->y_zero, p->low,        p->high};
    for (int32_t oy = begin; oy < end; oy++) {
        int32_t top = oy * p->stride_height - p->pad_top;
        int32_t left = -p->pad_left;
        int32_t at = 0;
        int8_t *to = &y[mcu_slot(oy, p->y_depth) * p->y_width * p->y_step];
        for (int32_t ox = 0; ox < p->y_width; ox++) {
            for (int32_t g = 0; g < p->groups; g++) {
                gather(p, &x[g * depth], patch, top, left);
                mcu_pixel_s8(&scaling, patch, &p->weights[g * step], terms, &to[at],
                             g * outputs, (g + 1) * outputs);
            }
            at += p->y_step;
            left += p->stride_width;
        }
    }
}
