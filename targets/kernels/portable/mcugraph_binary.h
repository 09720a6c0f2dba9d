/* Functions of two float32. */
#ifndef MCUGRAPH_BINARY_H
#define MCUGRAPH_BINARY_H

#include "mcugraph_elementwise.h"
#include "mcugraph_math.h"

static inline float mcu_apply(int32_t kind, float a, float b)
{
    switch (kind) {
    case MCU_ADD:
        return a + b;
    case MCU_SUB:
        return a - b;
    case MCU_MUL:
        return a * b;
    case MCU_DIV:
        return a / b;
    case MCU_MIN:
        return (b < a) ? b : a;
    case MCU_MAX:
        return (b > a) ? b : a;
    case MCU_PRELU:
        return (a < 0.0f) ? a * b : a;
    default: /* MCU_POW */
        return mcu_pow(a, b);
    }
}

#endif
