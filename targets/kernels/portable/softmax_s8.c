#include "mcugraph_softmax.h"

/* factor * part / sum, rounded half to even, bit by bit: part <= sum, so that no step overflows. */
static int32_t quotient(const struct mcu_softmax_s8 *p, uint32_t part, uint32_t sum)
{
    int32_t result = 0;
    uint32_t rest = 0;
    for (int32_t bit = p->top; bit != 0; bit >>= 1) {
        result += result;
        rest += rest;
        if ((p->factor & bit) != 0) {
            rest += part;
        }
        while (rest >= sum) {
            rest -= sum;
            result++;
        }
    }
    rest += rest;
    if ((rest > sum) || ((rest == sum) && ((result & 1) != 0))) {
        result++;
    }
    return result;
}

static void softmax_line(const struct mcu_softmax_s8 *p, const int8_t *x, int8_t *y)
{
    const int32_t size = p->length * p->inner;
    int32_t largest = -128;
    uint32_t sum = 0;
    for (int32_t i = 0; i < size; i += p->inner) {
        if (x[i] > largest) {
            largest = x[i];
        }
    }
    for (int32_t i = 0; i < size; i += p->inner) {
        sum += p->table[largest - x[i]];
    }
    for (int32_t i = 0; i < size; i += p->inner) {
        int32_t value = quotient(p, p->table[largest - x[i]], sum) + p->y_zero;
        y[i] = (int8_t)mcu_clamp(value, -128, 127);
    }
}

void mcu_softmax_s8(const struct mcu_softmax_s8 *p, const int8_t *x, int8_t *y, int32_t begin,
                    int32_t end)
{
    const int32_t block = p->length * p->inner;
    const int32_t size = p->outer * block;
    for (int32_t row = begin; row < end; row++) {
        const int8_t *in = &x[mcu_slot(row, p->x_depth) * size];
        int8_t *out = &y[mcu_slot(row, p->y_depth) * size];
        for (int32_t o = 0; o < size; o += block) {
            for (int32_t i = 0; i < p->inner; i++) {
                softmax_line(p, &in[o + i], &out[o + i]);
            }
        }
    }
}
